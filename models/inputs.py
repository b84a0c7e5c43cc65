"""Resize photos of any size to one of a few network input shapes."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

try:
    import cykooz_resizer
except ImportError:  # It has no wheel for Linux on ARM.
    cykooz_resizer = None

SHAPE_MULTIPLE = 32
"""Height and width are multiples of this, as networks halve their input five times."""

ASPECT_RATIOS = (1 / 2, 9 / 16, 3 / 4, 1.0, 4 / 3, 16 / 9, 2.0)
"""Width / height of the network input shapes; the one nearest to a photo's is used."""


def network_shape(width: int, height: int, input_width: int, input_height: int) -> tuple[int, int]:
    """Return the network input shape `(height, width)` for a photo of `width` x `height` pixels.

    All shapes have about the area of the model's nominal input, so they cost about the same. There
    are few of them, so that photos of different sizes share batches. Photos are stretched to the
    shape, not padded, so the mapping back to their pixels is a scaling.
    """
    aspect = min(ASPECT_RATIOS, key=lambda ratio: abs(math.log(width / height / ratio)))
    area = input_width * input_height
    return (
        max(1, round(math.sqrt(area / aspect) / SHAPE_MULTIPLE)) * SHAPE_MULTIPLE,
        max(1, round(math.sqrt(area * aspect) / SHAPE_MULTIPLE)) * SHAPE_MULTIPLE,
    )


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
