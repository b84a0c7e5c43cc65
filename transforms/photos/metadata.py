"""Metadata of an opened photo: EXIF, XMP and orientation.

A damaged tag costs that tag, a damaged block that block, and neither of them the photo.
"""

import re
from dataclasses import dataclass
from io import BytesIO

from PIL import ExifTags, Image

from transforms.photos import ifd

UPRIGHT = 1
ORIENTATIONS = range(1, 9)
"""EXIF 2.32, tag 274."""

SWAPS_AXES = (5, 6, 7, 8)
"""Orientations that rotate a photo by 90 degrees."""

XMP_LIMIT = 16 << 20
"""A larger XMP packet is ignored."""

_XMP_TAG = 700
_XMP_ORIENTATION = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|>)\s*([1-8])""")
_EXIF_PREFIX = b"Exif\0\0"


@dataclass(frozen=True, eq=False)
class Metadata:
    """The metadata of a photo; what is damaged is missing.

    Attributes:
        exif: EXIF tags.
        xmp: XMP packet; empty if there is none.
        orientation: 1 to 8.
    """

    exif: Image.Exif
    xmp: bytes = b""
    orientation: int = UPRIGHT


def from_blocks(exif: bytes, xmp: bytes) -> Metadata:
    """The metadata of an EXIF block and an XMP packet, each of which may be empty or damaged."""
    while exif.startswith(_EXIF_PREFIX):
        exif = exif[len(_EXIF_PREFIX) :]
    tags, orientation = Image.Exif(), None
    try:
        header = ifd.read_header(exif)
        orientation = orientation_of(ifd.read_directory(exif, header, header.first))
        tags.load(ifd.without_damage(exif, header, header.first))
    except Exception:  # Pillow raises many types on damaged blocks.
        tags = Image.Exif()
    return _metadata(tags, xmp, orientation)


def from_directories(header: ifd.Header, photo: ifd.Directory, first: ifd.Directory) -> Metadata:
    """The metadata of an image in a TIFF; what it lacks is taken from the first image."""
    pointers = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
    source = photo if any(tag in photo for tag in pointers) else first
    tags = Image.Exif()
    tags.endian, tags.bigtiff = header.order, header.big
    try:
        tags.load_from_fp(BytesIO(ifd.without_damage(photo.data, header, source.at)), source.at)
    except Exception:  # Pillow raises many types on damaged blocks.
        tags = Image.Exif()
    xmp = photo.bytes_of(_XMP_TAG) or first.bytes_of(_XMP_TAG)
    return _metadata(tags, xmp, orientation_of(photo) or orientation_of(first))


def orientation_of(directory: ifd.Directory) -> int | None:
    """The orientation in the tags of an image, whatever type it was written as; None if unknown."""
    value = directory.value(ExifTags.Base.Orientation)
    if isinstance(value, bytes) and value.strip(b"\0 ").isdigit():
        number = int(value.strip(b"\0 "))
    else:
        number = directory.number(ExifTags.Base.Orientation, 0)
    return number if number in ORIENTATIONS else None


def _metadata(exif: Image.Exif, xmp: bytes, orientation: int | None) -> Metadata:
    if len(xmp) > XMP_LIMIT:
        xmp = b""
    if orientation is None:
        found = _XMP_ORIENTATION.search(xmp)
        orientation = int(found[1]) if found else UPRIGHT
    return Metadata(exif, xmp, orientation)
