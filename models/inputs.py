"""From a photo of any size to one of a few network input shapes."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

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


def normalise(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Turn uint8 RGB (..., 3) into float32 (x / 255 - mean) / std."""
    scale, shift = 1 / (255 * np.asarray(std)), np.asarray(mean) / np.asarray(std)
    return pixels * scale.astype(np.float32) - shift.astype(np.float32)
