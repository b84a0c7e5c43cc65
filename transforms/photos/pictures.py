"""Pictures: what every reader of a format gives, and how much memory reading may take."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from models.inputs import resize
from transforms.photos.metadata import Metadata

BYTES_PER_PIXEL = 7
"""Working memory for a photo, per pixel of the limit of pixels: an image of 4 bytes per pixel as
Pillow keeps it, and its 3 bytes of RGB."""

SMALLEST_LIMIT = 64 << 20
"""Working memory that any photo may take, in bytes."""

BAND_BYTES = 16 << 20
"""Working memory for converting a band of rows, about."""

_GAP = 2
"""Photos are first reduced by whole factors to at least this many times their target size."""


class DecodeError(Exception):
    """A photo cannot be decoded; the message says what was found."""


@dataclass(frozen=True, eq=False)
class Picture(ABC):
    """An opened photo whose pixels have not been read.

    Attributes:
        width: columns as stored.
        height: rows as stored.
        metadata: its EXIF, XMP and orientation.
        further: other photos in the same file, which are passed over.
    """

    width: int
    height: int
    metadata: Metadata
    further: int = field(default=0, kw_only=True)

    @property
    @abstractmethod
    def working_bytes(self) -> int:
        """Memory that reading the pixels may take, in bytes."""

    @abstractmethod
    def bands(self) -> Iterator[np.ndarray]:
        """The pixels from the top down, uint8 RGB `(rows, width, 3)`; raises any error."""

    def full(self) -> np.ndarray:
        """All pixels, uint8 RGB `(height, width, 3)`."""
        return assembled(self.bands(), self.width, self.height)

    def resized(self, shape: tuple[int, int]) -> np.ndarray:
        """The pixels at `shape` (height, width), uint8 RGB, with an antialiased filter."""
        across, down = (
            max(1, int(size / target / _GAP))
            for size, target in ((self.width, shape[1]), (self.height, shape[0]))
        )
        if across == down == 1:
            return resize(Image.fromarray(self.full()), shape)
        rows = list(_reduced(self.bands(), across, down))
        box = (0, 0, self.width / across, self.height / down)
        whole = Image.fromarray(np.concatenate(rows))
        return np.asarray(whole.resize(shape[::-1], Image.Resampling.BILINEAR, box))


def assembled(bands: Iterator[np.ndarray], width: int, height: int) -> np.ndarray:
    """The bands of a picture of that size as one array."""
    pixels = np.empty((height, width, 3), np.uint8)
    row = 0
    for band in bands:
        pixels[row : row + len(band)] = band
        row += len(band)
    return pixels


def _reduced(bands: Iterator[np.ndarray], across: int, down: int) -> Iterator[np.ndarray]:
    """The bands reduced by whole factors, each pixel the mean of a block."""
    left: np.ndarray | None = None
    for band in bands:
        if left is not None and len(left):
            band = np.concatenate([left, band])
        whole = len(band) // down * down
        if whole:
            yield _reduce(band[:whole], across, down)
        left = band[whole:]
    if left is not None and len(left):
        yield _reduce(left, across, down)


def _reduce(pixels: np.ndarray, across: int, down: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).reduce((across, down)))


def rows_per_band(bytes_per_row: int) -> int:
    """Rows that are converted at a time."""
    return max(1, BAND_BYTES // max(1, bytes_per_row))
