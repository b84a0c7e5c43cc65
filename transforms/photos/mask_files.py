"""Masks, overlays and confidence images: from pixel arrays to PNG and JPEG bytes."""

import struct
import zlib

import numpy as np
import simplejpeg
from PIL import Image
from zlib_ng import zlib_ng

from models.classes import IGNORE

OVERLAY_OPACITY = 0.5
OVERLAY_QUALITY = 85
JPEG_MAX_SIDE = 65_500

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _COLORED, _INDEXED = 0, 2, 3
"""Colour types of the PNG specification, 3rd edition, section 11.2.1."""

_UP = 2
"""Filter type of its section 9.2: each row holds the differences to the row above it."""

_LEVEL = 1
"""The rows of a mask so filtered are runs of zeros, which zlib's run-length strategy takes at once,
whatever the level. Confidences change so smoothly that the same serves them.
"""


def encode_mask(mask: np.ndarray, palette: bytes) -> bytes:
    """A PNG of mode `P` from a uint8 mask `(height, width)` and 256 RGB triples."""
    return _encode_png(mask, _INDEXED, (b"PLTE", palette))


def encode_grey(values: np.ndarray) -> bytes:
    """A PNG of mode `L` from uint8 grey values `(height, width)`: confidences, label ids."""
    return _encode_png(values, _GREY)


def encode_rgb(colors: np.ndarray) -> bytes:
    """A PNG of mode `RGB` from uint8 colours `(height, width, 3)`."""
    return _encode_png(colors, _COLORED)


def encode_overlay(photo: Image.Image, mask: np.ndarray, palette: bytes) -> bytes:
    """A JPEG of the RGB photo blended with the mask's colours; pixels without a class stay.

    It has the photo's size, unless that is more than a JPEG can have. It is encoded without the
    GIL, which Pillow holds.
    """
    colors = Image.fromarray(mask)
    colors.putpalette(palette)
    blended = Image.blend(photo, colors.convert("RGB"), OVERLAY_OPACITY)
    if (mask == IGNORE).any():
        blended.paste(photo, mask=Image.fromarray(mask == IGNORE))
    blended.thumbnail((JPEG_MAX_SIDE, JPEG_MAX_SIDE))
    return simplejpeg.encode_jpeg(
        np.asarray(blended), quality=OVERLAY_QUALITY, colorsubsampling="420"
    )


def _encode_png(values: np.ndarray, color_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 8 bits a channel, with `chunks` of kind and data before the pixels.

    Pillow would write the same pixels, but needs some times as long.
    """
    height, width = values.shape[:2]
    values = values.reshape(height, -1)
    rows = np.empty((height, values.shape[1] + 1), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = values[0]
    np.subtract(values[1:], values[:-1], out=rows[1:, 1:])
    compressor = zlib_ng.compressobj(_LEVEL, strategy=zlib_ng.Z_RLE)
    return _PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)),
            *chunks,
            (b"IDAT", compressor.compress(rows) + compressor.flush()),
            (b"IEND", b""),
        )
    )
