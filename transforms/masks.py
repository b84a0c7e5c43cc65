"""Masks, overlays and confidence images: from pixel arrays to PNG and JPEG bytes."""

from io import BytesIO

import numpy as np
from PIL import Image

from models.classes import IGNORE

OVERLAY_OPACITY = 0.5
OVERLAY_QUALITY = 85
JPEG_MAX_SIDE = 65_500

_LEVEL = 1
_RLE = 3
"""zlib's run-length strategy: a mask is runs of one value, and matching further costs time only.

Confidences change so smoothly that it serves their filtered rows as well.
"""


def encode_mask(mask: np.ndarray, palette: bytes) -> bytes:
    """A PNG of mode `P` from a uint8 mask `(height, width)` and 256 RGB triples."""
    image = Image.fromarray(mask)
    image.putpalette(palette)
    return _encode_png(image)


def encode_confidence(confidence: np.ndarray) -> bytes:
    """A PNG of mode `L` from uint8 grey values `(height, width)`."""
    return _encode_png(Image.fromarray(confidence))


def encode_overlay(photo: Image.Image, mask: np.ndarray, palette: bytes) -> bytes:
    """A JPEG of the RGB photo blended with the mask's colours; pixels without a class stay.

    It has the photo's size, unless that is more than a JPEG can have.
    """
    colors = np.frombuffer(palette, np.uint8).reshape(256, 3)
    blended = Image.blend(photo, Image.fromarray(colors[mask]), OVERLAY_OPACITY)
    if (mask == IGNORE).any():
        blended.paste(photo, mask=Image.fromarray(mask == IGNORE))
    blended.thumbnail((JPEG_MAX_SIDE, JPEG_MAX_SIDE))
    buffer = BytesIO()
    blended.save(buffer, "JPEG", quality=OVERLAY_QUALITY)
    return buffer.getvalue()


def _encode_png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=_LEVEL, compress_type=_RLE)
    return buffer.getvalue()
