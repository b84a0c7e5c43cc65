"""Resize photos of any size to one of a few network input shapes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from models.graphs import Resize

try:
    import cykooz_resizer
except ImportError:  # It has no wheel for Linux on ARM.
    cykooz_resizer = None

SHAPE_MULTIPLE = 32
"""Height and width are multiples of this, as networks halve their input five times."""

ASPECT_RATIOS = (1 / 2, 9 / 16, 3 / 4, 1.0, 4 / 3, 16 / 9, 2.0)
"""Width / height of the network input shapes; the one nearest to a photo's is used."""

MOST_EXTREME = 8
"""Largest width / height, or height / width, of an input shape that keeps the photo's own."""


def network_shape(width: int, height: int, input_width: int, input_height: int) -> tuple[int, int]:
    """Return the network input shape `(height, width)` for a photo of `width` x `height` pixels.

    All shapes have about the area of the model's nominal input, so they cost about the same. There
    are few of them, so that photos of different sizes share batches. Photos are stretched to the
    shape, not padded, so the mapping back to their pixels is a scaling.
    """
    aspect = min(ASPECT_RATIOS, key=lambda ratio: abs(math.log(width / height / ratio)))
    return _shape_of(aspect, input_width * input_height)


def _shape_of(aspect: float, area: int) -> tuple[int, int]:
    """A shape of about this width / height and area, of multiples of `SHAPE_MULTIPLE`."""
    return (
        max(1, round(math.sqrt(area / aspect) / SHAPE_MULTIPLE)) * SHAPE_MULTIPLE,
        max(1, round(math.sqrt(area * aspect) / SHAPE_MULTIPLE)) * SHAPE_MULTIPLE,
    )


@dataclass(frozen=True)
class InputSize:
    """The size to which photos are brought for a network.

    Attributes:
        width: nominal columns of the network input.
        height: nominal rows.
        resize: how photos are brought to it.
        open: whether the network takes other shapes of about the same area as well, whose sides are
            multiples of `SHAPE_MULTIPLE`; else the nominal one is the only one.
        padding: RGB of what is padded.
    """

    width: int
    height: int
    resize: Resize = Resize.STRETCH
    open: bool = True
    padding: tuple[int, int, int] = (0, 0, 0)

    @property
    def nominal_shape(self) -> tuple[int, int]:
        """The network's input shape `(height, width)` for a photo of the nominal size."""
        if self.open:
            return network_shape(self.width, self.height, self.width, self.height)
        return self.height, self.width

    def photo_shape(self, width: int, height: int) -> tuple[int, int]:
        """The shape `(h, w)` to which a photo of `width` x `height` pixels is resized.

        It is the network's input shape unless the photo is to be padded.
        """
        rows, columns = self.nominal_shape
        if self.resize is Resize.PAD:
            scale = min(rows / height, columns / width)
            return max(1, round(height * scale)), max(1, round(width * scale))
        if not self.open:
            return rows, columns
        if self.resize is Resize.KEEP_ASPECT:
            aspect = min(max(width / height, 1 / MOST_EXTREME), MOST_EXTREME)
            return _shape_of(aspect, rows * columns)
        return network_shape(width, height, self.width, self.height)

    @property
    def is_single(self) -> bool:
        """Whether all photos come to the network in the nominal shape."""
        return self.resize is Resize.PAD or not self.open

    def pad(self, pixels: np.ndarray) -> np.ndarray:
        """Pad a photo, uint8 `(h, w, 3)`, at the bottom and the right, if it has to be."""
        rows, columns, _ = pixels.shape
        if not self.is_single or (rows, columns) == self.nominal_shape:
            return pixels
        padded = np.empty((*self.nominal_shape, 3), np.uint8)
        padded[:] = self.padding
        padded[:rows, :columns] = pixels
        return padded


def resize(image: Image.Image, shape: tuple[int, int]) -> np.ndarray:
    """Resize an RGB image to `shape` (height, width) with an antialiased bilinear filter.

    Returns a uint8 array of shape `(height, width, 3)`.
    """
    height, width = shape
    resized = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(resized, dtype=np.uint8)


def resize_pixels(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize an array like `resize`, but several times as fast if `cykooz_resizer` is installed.

    For photos of up to about four times the target size, the results of the two differ by at most
    two grey levels.

    Args:
        pixels: uint8 RGB `(h, w, 3)`.
        shape: target height and width.

    Returns:
        uint8 `(height, width, 3)`.
    """
    if pixels.shape[:2] == tuple(shape):
        return pixels
    if cykooz_resizer is None:
        return resize(Image.fromarray(pixels), shape)
    height, width = shape
    rgb = cykooz_resizer.PixelType.U8x3
    source = cykooz_resizer.ImageData(pixels.shape[1], pixels.shape[0], rgb, pixels.tobytes())
    resized = cykooz_resizer.ImageData(width, height, rgb)
    bilinear = cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.bilinear)
    cykooz_resizer.Resizer().resize(source, resized, cykooz_resizer.ResizeOptions(bilinear))
    return np.frombuffer(resized.get_buffer(), np.uint8).reshape(height, width, 3)


def normalise(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Normalise uint8 RGB (..., 3) to float32 (x / 255 - mean) / std."""
    scale, shift = 1 / (255 * np.asarray(std)), np.asarray(mean) / np.asarray(std)
    return pixels * scale.astype(np.float32) - shift.astype(np.float32)
