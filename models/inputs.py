"""From a photo of any size to one of a few network input shapes."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

try:
    import cykooz_resizer
except ImportError:  # It has no wheel for Linux on ARM.
    cykooz_resizer = None

SHAPE_MULTIPLE = 32
"""Networks halve their input five times; height and width are multiples of this."""

ASPECT_RATIOS = (1 / 2, 9 / 16, 3 / 4, 1.0, 4 / 3, 16 / 9, 2.0)
"""Width / height of the network input shapes; a photo takes the nearest one."""


def network_shape(width: int, height: int, input_width: int, input_height: int) -> tuple[int, int]:
    """The network input shape `(height, width)` for a photo of `width` x `height` pixels.

    All shapes have about the area of the model's nominal input, so that they cost the same, and
    there are few of them, so that photos of any size fill batches of equal shape. A photo is
    stretched to the shape, not padded: the mapping back to its pixels stays a plain scaling.
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
    """Resize like `resize`, but an array, and some times as fast where the library for it is.

    Up to about four times the wanted size, the two differ by two grey levels at most.

    Args:
        pixels: uint8 RGB `(h, w, 3)`.
        shape: the height and width wanted.

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
    """Turn uint8 RGB (..., 3) into float32 (x / 255 - mean) / std."""
    scale, shift = 1 / (255 * np.asarray(std)), np.asarray(mean) / np.asarray(std)
    return pixels * scale.astype(np.float32) - shift.astype(np.float32)
