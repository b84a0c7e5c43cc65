"""Mask files: encodes masks, overlays and confidence images as PNG or JPEG, and decodes masks."""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

import numpy as np
import simplejpeg
from PIL import Image
from zlib_ng import zlib_ng

from models.classes import IGNORE

OVERLAY_OPACITY = 0.5
OVERLAY_QUALITY = 85
JPEG_MAX_SIDE = 65_500

_BAND_VALUES = 1 << 22
"""Values that are encoded at a time."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _COLORED, _INDEXED = 0, 2, 3
"""Colour types of the PNG specification, 3rd edition, section 11.2.1."""

_UP = 2
"""Filter type of the PNG specification, section 9.2: each row holds the differences to the row
above it."""

_LEVEL = 1
"""Compression level. Filtered mask rows are mostly runs of zeros, which zlib's run-length strategy
compresses well at any level. Confidence changes smoothly enough to compress well too."""


MODE = "P"
"""Pillow's name for the pixels of a mask: values with a palette."""

GREY_MODE = "L"
"""Pillow's name for the pixels of a mask without a palette, as other programs may write it."""


class MaskError(ValueError):
    """A file is not a mask, is damaged, or has another size; the message does not name the file."""


def encode_mask(mask: np.ndarray, palette: bytes) -> bytes:
    """A PNG of mode `P` from a uint8 mask `(height, width)` and 256 RGB triples."""
    return _encode_png(mask, _INDEXED, (b"PLTE", palette))


def encode_grey(values: np.ndarray) -> bytes:
    """A PNG of mode `L` from uint8 grey values `(height, width)`: confidences, label ids."""
    return _encode_png(values, _GREY)


def encode_rgb(colors: np.ndarray) -> bytes:
    """A PNG of mode `RGB` from uint8 colours `(height, width, 3)`."""
    return _encode_png(colors, _COLORED)


def encode_overlay(photo: Image.Image | np.ndarray, mask: np.ndarray, palette: bytes) -> bytes:
    """A JPEG of the RGB photo blended with the mask's colours; pixels without a class are kept.

    It has the photo's size, up to the maximum size of a JPEG. simplejpeg encodes without the GIL;
    Pillow would hold it.

    Args:
        photo: an RGB image; or uint8 RGB `(height, width, 3)`, which is overwritten, as a copy of
            a large photo would take too much memory.
        mask: uint8 `(height, width)`.
        palette: 256 RGB triples.
    """
    pixels = np.require(np.asarray(photo), np.uint8, ("C", "W"))
    colors = np.frombuffer(palette, np.uint8).reshape(-1, 3).astype(np.uint16)
    for rows in _bands(*mask.shape):
        classes = mask[rows]
        blended = (pixels[rows] + colors[classes]) >> 1
        np.copyto(pixels[rows], blended, "unsafe", where=(classes != IGNORE)[..., None])
    if max(mask.shape) > JPEG_MAX_SIDE:
        smaller = Image.fromarray(pixels)
        smaller.thumbnail((JPEG_MAX_SIDE, JPEG_MAX_SIDE))
        pixels = np.asarray(smaller)
    return simplejpeg.encode_jpeg(pixels, quality=OVERLAY_QUALITY, colorsubsampling="420")


def load_mask(data: bytes) -> Image.Image:
    """A mask as a fully decoded Pillow image of mode `P` or `L`.

    Raises:
        MaskError: it is not a PNG with one value per pixel, or damaged.
    """
    try:
        image = Image.open(BytesIO(data), formats=("PNG",))
        image.load()
    except Exception as error:  # Pillow raises many types on damaged files.
        raise MaskError(str(error) or type(error).__name__) from error
    if image.mode not in (MODE, GREY_MODE):
        raise MaskError(f"has mode {image.mode}, expected {MODE}")
    return image


def decode_mask(data: bytes, width: int, height: int) -> np.ndarray:
    """The values of a mask, uint8 `(height, width)`.

    Raises:
        MaskError: it is not a PNG with one value per pixel, damaged, or of another size.
    """
    image = load_mask(data)
    if image.size != (width, height):
        raise MaskError(f"is {image.width}x{image.height}, expected {width}x{height}")
    return np.asarray(image)


def palette_of(file: BinaryIO) -> bytes:
    """The palette of a mask, up to 256 RGB triples; the pixels are not read.

    Raises:
        MaskError: it is not a PNG, or damaged.
    """
    try:
        with Image.open(file, formats=("PNG",)) as image:
            return bytes(image.palette.palette) if image.palette else b""
    except Exception as error:  # Pillow raises many types on damaged files.
        raise MaskError(str(error) or type(error).__name__) from error


def check_chunks(data: bytes) -> None:
    """Check the structure of a PNG and the checksums of all its chunks, which Pillow does not do.

    Raises:
        MaskError: not a PNG, truncated or damaged.
    """
    if not data.startswith(_PNG_SIGNATURE):
        raise MaskError(f"no PNG image: {len(data)} bytes that start with {data[:8]!r}")
    position, kind = len(_PNG_SIGNATURE), b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise MaskError(f"cut short: ends after {len(data)} bytes, within the image")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise MaskError(
                f"cut short or damaged: {end} bytes expected, the file ends after {len(data)}"
            )
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != int.from_bytes(
            data[end - 4 : end], "big"
        ):
            raise MaskError(f"damaged: wrong checksum of the chunk at byte {position}")
        position = end
    if position != len(data):
        raise MaskError(f"damaged: {len(data) - position} bytes after the end of the image")


def _encode_png(values: np.ndarray, color_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with 8 bits per channel, and `chunks` of kind and data before the pixels.

    Pillow would write the same pixels, but takes several times as long.
    """
    height, width = values.shape[:2]
    values = values.reshape(height, -1)
    compressor = zlib_ng.compressobj(_LEVEL, strategy=zlib_ng.Z_RLE)
    compressed = [compressor.compress(_filtered(values, rows)) for rows in _bands(*values.shape)]
    return _PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)),
            *chunks,
            (b"IDAT", b"".join([*compressed, compressor.flush()])),
            (b"IEND", b""),
        )
    )


def _filtered(values: np.ndarray, rows: slice) -> np.ndarray:
    """Rows of values as a PNG stores them: the filter type, then differences to the row above."""
    band = values[rows]
    filtered = np.empty((len(band), values.shape[1] + 1), np.uint8)
    filtered[:, 0] = _UP
    above = values[rows.start - 1] if rows.start else 0
    np.subtract(band[0], above, out=filtered[0, 1:], dtype=np.uint8)
    np.subtract(band[1:], band[:-1], out=filtered[1:, 1:])
    return filtered


def _bands(height: int, width: int) -> Iterator[slice]:
    """The rows of an image in bands that take little memory."""
    rows = max(1, _BAND_VALUES // width)
    return (slice(start, min(start + rows, height)) for start in range(0, height, rows))
