"""Looks: what a photo looks like in a few numbers, at a glance that costs far less than a network.

The perceptual hash is a difference hash: whether each pixel of a tiny grey copy is brighter than
the one to its left (N. Krawetz, "Kind of Like That", 2013). Photos that were saved again, scaled or
cropped by little differ in few of its bits.

The sharpness is 1 less the blur of F. Crete et al., "The blur effect: perception and estimation
with a new no-reference perceptual blur metric" (SPIE 6492, 2007): how much of the differences
between neighbouring pixels a low-pass filter takes away. A blurred photo has little to lose. Unlike
the variance of the Laplacian it depends little on what the photo shows, and it sees motion blur.
"""

import numpy as np
from PIL import Image

from transforms.flow.records import Capture, Look, Projection
from transforms.photos.decoding import decode_photo

LONGER_SIDE = 448
"""Photos are looked at in this size, about that of a network's input; smaller ones in their own."""

HASH_SIDE = 16
"""A hash has so many rows of so many bits."""

FILTER_WIDTH = 9
"""Pixels of the low-pass filter along each axis, as in the paper."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Grey of RGB, ITU-R BT.601."""


def look_at(data: bytes, max_pixels: int) -> tuple[Look, Capture]:
    """Look at an encoded photo; also what its EXIF says of the capture.

    Raises:
        DecodeError: see `photos.decode_photo`.
    """
    photo = decode_photo(data, small_shape, max_pixels, Projection.PERSPECTIVE)
    grey = photo.pixels @ LUMA
    return Look(difference_hash(grey), sharpness(grey)), photo.capture


def small_shape(width: int, height: int) -> tuple[int, int]:
    """Rows and columns in which a photo is looked at."""
    scale = min(1.0, LONGER_SIDE / max(width, height))
    return max(1, round(height * scale)), max(1, round(width * scale))


def difference_hash(grey: np.ndarray) -> str:
    """The perceptual hash of grey values `(h, w)`, in hexadecimal digits."""
    size = (HASH_SIDE + 1, HASH_SIDE)
    tiny = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR))
    return np.packbits(tiny[:, 1:] > tiny[:, :-1]).tobytes().hex()


def sharpness(grey: np.ndarray) -> float:
    """The sharpness of grey values `(h, w)`, 0 to 1, along the axis that is more blurred."""
    return min(_sharpness_along(grey), _sharpness_along(np.ascontiguousarray(grey.T)))


def _sharpness_along(grey: np.ndarray) -> float:
    """The same along the rows; what has no differences has no sharpness."""
    half = FILTER_WIDTH // 2
    sums = np.cumsum(np.pad(grey, ((0, 0), (half + 1, half)), "edge"), axis=1)
    filtered = (sums[:, FILTER_WIDTH:] - sums[:, :-FILTER_WIDTH]) / FILTER_WIDTH
    differences = np.abs(np.diff(grey, axis=1))
    lost = np.maximum(0, differences - np.abs(np.diff(filtered, axis=1)))
    total = float(differences.sum())
    return float(lost.sum()) / total if total else 0.0
