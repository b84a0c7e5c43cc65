"""Formats that Pillow reads surely; their pixels as bands of 8-bit RGB."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from transforms.photos import metadata, samples
from transforms.photos.pictures import DecodeError, Picture, rows_per_band

DEEP_GREY = ("I;16", "I;16B", "I;16L", "I;16N", "I")
"""Pillow's modes of grey values of 16 bits; of `I`, which PPM has, the lower 16 are used."""

FLOAT_GREY = "F"

_CODEC_BYTES = {"AVIF": 10, "QOI": 4}
"""Memory that a codec takes while decoding, in bytes per pixel, as measured; others take little."""

_STORED_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2}
"""Bytes per pixel of an image in memory; others take 4."""


@dataclass(frozen=True, eq=False)
class PillowPicture(Picture):
    """A photo that Pillow has opened.

    Attributes:
        image: the opened image.
        codec_bytes: memory that its codec takes while decoding.
    """

    image: Image.Image
    codec_bytes: int = 0

    @property
    def working_bytes(self) -> int:
        stored = _STORED_BYTES.get(self.image.mode, 4)
        return self.codec_bytes + (stored + 3) * self.width * self.height

    def bands(self) -> Iterator[np.ndarray]:
        return rgb_bands(self.image)


def open_image(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    """Open an image of one of these formats; raises DecodeError."""
    try:
        return Image.open(BytesIO(data), formats=formats)
    except Image.UnidentifiedImageError:
        raise DecodeError(
            f"not an image, or of an unsupported codec: {len(data)} bytes that start with "
            f"{data[:12]!r}"
        ) from None


def open_any(data: bytes, formats: tuple[str, ...]) -> PillowPicture:
    """Open a photo of one of these formats; raises DecodeError, and errors of a damaged header."""
    image = open_image(data, formats)
    blocks = (_bytes(image.info.get(name)) for name in ("exif", "xmp"))
    codec_bytes = _CODEC_BYTES.get(image.format or "", 0) * image.width * image.height
    return PillowPicture(*image.size, metadata.from_blocks(*blocks), image, codec_bytes)


def rgb_bands(image: Image.Image) -> Iterator[np.ndarray]:
    """The pixels of an opened image, uint8 RGB `(rows, width, 3)`; alpha is dropped.

    Behind the last band the image is closed, which frees its memory.
    """
    image.load()
    rows = rows_per_band(4 * image.width)
    bands = [
        (0, row, image.width, min(row + rows, image.height)) for row in range(0, image.height, rows)
    ]
    scale = _scale(image, bands)
    for box in bands:
        band = image if len(bands) == 1 else image.crop(box)
        if scale is None:
            yield np.asarray(band.convert("RGB"))
        else:
            yield samples.rgb_of_grey(scale.apply(np.asarray(band)))
    image.close()


def _scale(image: Image.Image, bands: list[tuple[int, int, int, int]]) -> samples.Scale | None:
    """The scale of grey values of more than 8 bits; None for others."""
    if image.mode in DEEP_GREY:
        return samples.scale_of(samples.UNSIGNED, 16)
    if image.mode != FLOAT_GREY:
        return None
    extent = samples.Extent()
    for box in bands:
        extent = extent.with_values(np.asarray(image.crop(box)))
    return samples.scale_of(samples.FLOAT, 32, extent)


def _bytes(block: Any) -> bytes:
    if isinstance(block, str):
        return block.encode("utf-8", "surrogateescape")
    return block if isinstance(block, bytes) else b""
