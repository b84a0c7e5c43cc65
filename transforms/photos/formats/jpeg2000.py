"""JPEG 2000: read by Pillow, after the codestream says how much memory that takes.

Source: ITU-T T.800, annexes A and I.
"""

import struct

from transforms.photos.formats.pillow import PillowPicture, open_any
from transforms.photos.pictures import DecodeError

_FORMATS = ("JPEG2000",)
_CODESTREAM = b"\xff\x4f\xff\x51"
"""Start of a codestream: the markers SOC and SIZ."""

_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"

_BYTES_PER_SAMPLE = 4
"""OpenJPEG keeps the samples of a tile, and those of the image, as integers."""


def is_jpeg2000(data: bytes) -> bool:
    """Whether the file starts like a JPEG 2000."""
    return data.startswith((_CODESTREAM, _SIGNATURE))


def open_jpeg2000(data: bytes) -> PillowPicture:
    """Open a JPEG 2000; raises DecodeError, and errors of a damaged header."""
    start = _codestream(data)
    if not data.startswith(_CODESTREAM, start) or start + 42 > len(data):
        raise DecodeError("damaged header: a JPEG 2000 without a codestream")
    right, bottom, left, top, across, down, x, y, count = struct.unpack_from(
        ">8IH", data, start + 8
    )
    columns, rows = min(across, right - x), min(down, bottom - y)
    if not (left < right and top < bottom and columns > 0 and rows > 0):
        raise DecodeError("damaged header: a JPEG 2000 without pixels")
    picture = open_any(data, _FORMATS)
    if (picture.width, picture.height) != (right - left, bottom - top):
        raise DecodeError(
            f"damaged header: {picture.width} x {picture.height} pixels that are "
            f"{right - left} x {bottom - top}"
        )
    tile = 2 * columns * rows * count * _BYTES_PER_SAMPLE
    return PillowPicture(*picture.image.size, picture.metadata, picture.image, tile)


def _codestream(data: bytes) -> int:
    """Position of the codestream: at the start, or in a box."""
    position = 0
    while data.startswith(_SIGNATURE) and position + 16 <= len(data):
        length, kind, long_length = struct.unpack_from(">I4sQ", data, position)
        header = 16 if length == 1 else 8
        if kind == b"jp2c":
            return position + header
        length = long_length if length == 1 else length
        if length < header:
            break
        position += length
    return 0
