"""Projections: whether a photo is a panorama, according to the option, its metadata and its file.

A file declares it in XMP, with Google's Photo Sphere XMP Metadata
(https://developers.google.com/streetview/spherical-metadata).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from models.panoramas import ZENITH, Panorama
from transforms.flow.records import ExtraColumn, Projection
from transforms.flow.values import parse_number
from transforms.photos.xmp import GPANO, properties

PROJECTION_TYPE = "projection_type"
"""Metadata column with the projection of a photo."""

EQUIRECTANGULAR_NAMES = ("equirectangular", "spherical")
"""Its values for panoramas, in lower case; all other values mean flat photos."""

SIZES = (
    f"{GPANO}FullPanoWidthPixels",
    f"{GPANO}FullPanoHeightPixels",
    f"{GPANO}CroppedAreaImageWidthPixels",
    f"{GPANO}CroppedAreaImageHeightPixels",
    f"{GPANO}CroppedAreaLeftPixels",
    f"{GPANO}CroppedAreaTopPixels",
)
"""The properties that define which part of the sphere a cropped panorama shows."""

MOST_PIXELS = 10**9
"""No side of a panorama has more."""

TOLERANCE = 0.01
"""Accepted relative error of an aspect ratio: sizes are rounded when photos are scaled."""


@dataclass(frozen=True)
class Recognised:
    """The projection recognised for a photo.

    Attributes:
        panorama: the part of the sphere that it shows; None for a flat photo.
        contradiction: why it is not the panorama that it is claimed to be; else empty.
    """

    panorama: Panorama | None = None
    contradiction: str = ""


def claimed(wanted: Projection, extra: Iterable[ExtraColumn]) -> Projection:
    """The projection claimed before a photo is opened: by the option, else by its metadata."""
    if wanted is not Projection.AUTO:
        return wanted
    for column in extra:
        if column.name == PROJECTION_TYPE and column.value not in (None, ""):
            spherical = str(column.value).strip().lower() in EQUIRECTANGULAR_NAMES
            return Projection.EQUIRECTANGULAR if spherical else Projection.PERSPECTIVE
    return Projection.AUTO


def recognise(claim: Projection, xmp: bytes, width: int, height: int) -> Recognised:
    """Whether a photo of `width` x `height` displayed pixels is a panorama.

    A claimed panorama without the shape of one is treated as a flat photo: its pixels would get
    wrong places on the sphere.

    Args:
        claim: the claimed projection; `AUTO` leaves it to the file.
        xmp: the XMP packet of the file; empty if it has none.
        width: columns.
        height: rows.
    """
    if claim is Projection.PERSPECTIVE:
        return Recognised()
    declared = properties(xmp, GPANO)
    is_one = declared.get(f"{GPANO}ProjectionType", "").lower() == Projection.EQUIRECTANGULAR.value
    if claim is Projection.AUTO and not is_one:
        return Recognised()
    if is_one and declared.keys() >= set(SIZES):
        return _cropped(declared, width, height)
    if not _alike(width, 2 * height):
        return Recognised(contradiction=f"{width} x {height} pixels are not 2:1")
    return Recognised(Panorama())


def _cropped(declared: dict[str, str], width: int, height: int) -> Recognised:
    """A panorama that declares which part of the sphere it shows; it may have been scaled since."""
    sizes = [
        int(size)
        for name in SIZES
        if (size := parse_number(declared[name], -MOST_PIXELS, MOST_PIXELS)) is not None
    ]
    if len(sizes) < len(SIZES):
        return Recognised(contradiction="its Photo Sphere sizes are no numbers of pixels")
    full_width, full_height, columns, rows, left, top = sizes
    said = f"a part of {columns} x {rows} pixels at {left}, {top} of {full_width} x {full_height}"
    if min(columns, rows, full_width, full_height) < 1 or not _alike(full_width, 2 * full_height):
        return Recognised(contradiction=f"{said}, which is not 2:1")
    if min(left, top) < 0 or left + columns > full_width or top + rows > full_height:
        return Recognised(contradiction=f"{said}, which is not inside")
    if not _alike(width * rows, height * columns):
        return Recognised(contradiction=f"{said}, but the photo has {width} x {height} pixels")
    upper, lower = (ZENITH - math.pi * (row / full_height) for row in (top, top + rows))
    return Recognised(Panorama(upper, lower, math.tau * (columns / full_width)))


def _alike(a: int, b: int) -> bool:
    return abs(a - b) <= TOLERANCE * b
