"""Looks: perceptual hash and sharpness of a photo, which cost far less than running the network.

The perceptual hash is a difference hash: whether each pixel of a tiny grey copy is brighter than
the one to its left (N. Krawetz, "Kind of Like That", 2013). Photos that were saved again, scaled or
slightly cropped differ in few bits.

The sharpness is 1 minus the blur of F. Crete et al., "The blur effect: perception and estimation
with a new no-reference perceptual blur metric" (SPIE 6492, 2007): how much of the differences
between neighbouring pixels a low-pass filter removes. A blurred photo has little to lose. Unlike
the variance of the Laplacian, it depends little on the content of the photo, and it detects motion
blur.
"""

import numpy as np
from PIL import Image

from transforms.flow.records import Capture, Look, Projection
from transforms.photos.decoding import decode_photo

LONGER_SIDE = 448
"""Larger photos are scaled down to this side length, about that of a network's input."""

HASH_SIDE = 16
"""Rows of a hash, and bits per row."""

FILTER_WIDTH = 9
"""Pixels of the low-pass filter along each axis, as in the paper."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in grey, ITU-R BT.601."""


def look_at(data: bytes, max_pixels: int) -> tuple[Look, Capture]:
    """The look of an encoded photo, and the capture in its EXIF tags.

    Raises:
        DecodeError: see `photos.decode_photo`.
    """
    photo = decode_photo(data, small_shape, max_pixels, Projection.PERSPECTIVE)
    grey = photo.pixels @ LUMA
    return Look(difference_hash(grey), sharpness(grey)), photo.capture


def small_shape(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the scaled photo."""
    scale = min(1.0, LONGER_SIDE / max(width, height))
    return max(1, round(height * scale)), max(1, round(width * scale))


def difference_hash(grey: np.ndarray) -> str:
    """The perceptual hash of grey values `(h, w)`, in hexadecimal digits."""
    size = (HASH_SIDE + 1, HASH_SIDE)
    tiny = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR))
    return np.packbits(tiny[:, 1:] > tiny[:, :-1]).tobytes().hex()


def sharpness(grey: np.ndarray) -> float:
    """The sharpness of grey values `(h, w)`, 0 to 1, along the more blurred axis."""
    return min(_sharpness_along(grey), _sharpness_along(np.ascontiguousarray(grey.T)))


def _sharpness_along(grey: np.ndarray) -> float:
    """The sharpness along the rows; 0 without any differences."""
    half = FILTER_WIDTH // 2
    sums = np.cumsum(np.pad(grey, ((0, 0), (half + 1, half)), "edge"), axis=1)
    filtered = (sums[:, FILTER_WIDTH:] - sums[:, :-FILTER_WIDTH]) / FILTER_WIDTH
    differences = np.abs(np.diff(grey, axis=1))
    lost = np.maximum(0, differences - np.abs(np.diff(filtered, axis=1)))
    total = float(differences.sum())
    return float(lost.sum()) / total if total else 0.0
