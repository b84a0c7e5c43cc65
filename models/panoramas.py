"""Panoramas: equirectangular photos, measured on the sphere and segmented without a seam.

The rows of an equirectangular photo are latitudes and its columns longitudes, both in even steps.
So a pixel near the zenith shows far less than one at the horizon: a pixel between the latitudes `a`
and `b` covers the solid angle `2 pi (sin b - sin a) / columns`, exactly.

Where a photo goes all around, its left edge continues its right one. The network gets it with a
margin of the other side's pixels on either side, and its logits are interpolated on a circle (see
`models.upsampling.neighbours`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.inputs import SHAPE_MULTIPLE

MARGIN = 1 / 3
"""Margin on either side, as a share of the width of the network's input."""

ZENITH = math.pi / 2
_HORIZON = 1e-9
"""Latitudes up to here count as the horizon: edges of pixels are not met exactly."""


@dataclass(frozen=True)
class Panorama:
    """The part of the sphere that an equirectangular photo shows; by default all of it.

    Attributes:
        top: latitude of the upper edge in radians, pi / 2 at the zenith.
        bottom: latitude of the lower edge in radians.
        extent: longitudes from the left to the right edge in radians, up to 2 pi.
    """

    top: float = ZENITH
    bottom: float = -ZENITH
    extent: float = math.tau

    @property
    def is_closed(self) -> bool:
        """Whether it goes all around, so that its left edge continues its right one."""
        return self.extent == math.tau

    @property
    def shows_all_sky(self) -> bool:
        """Whether it shows the whole upper hemisphere."""
        return self.is_closed and self.top == ZENITH and self.bottom <= _HORIZON


@dataclass(frozen=True)
class OnSphere:
    """What the mask of a panorama covers of the sphere.

    Attributes:
        solid_angles: of each class in steradians, in the order of the class ids.
        sky_view_factor: share of the sky in the upper hemisphere, each part weighted by the cosine
            of its angle to the zenith (Johnson and Watson 1984, Journal of Climate and Applied
            Meteorology 23, 329-335); None without a class of sky, or without the whole hemisphere.
    """

    solid_angles: tuple[float, ...]
    sky_view_factor: float | None


def measure_on_sphere(
    mask: np.ndarray, panorama: Panorama, classes: int, sky: Sequence[int]
) -> OnSphere:
    """Measure the mask of a panorama on the sphere.

    Args:
        mask: class ids, uint8 of shape `(height, width)`.
        panorama: what the photo shows.
        classes: how many classes there are.
        sky: the ids of the classes that are sky; empty where there are none.
    """
    from models.interpolation import count_rows

    height, width = mask.shape
    counts = np.zeros((height, classes), np.int64)
    count_rows(mask, counts)
    edges = np.linspace(panorama.top, panorama.bottom, height + 1)
    column = panorama.extent / width
    solid_angles = -np.diff(np.sin(edges)) * column @ counts
    sky_view_factor = None
    if sky and panorama.shows_all_sky:
        heights = np.sin(np.maximum(edges, 0)) ** 2
        sky_view_factor = float(-np.diff(heights) * column / math.tau @ counts[:, sky].sum(axis=1))
    return OnSphere(tuple(solid_angles.tolist()), sky_view_factor)


def margin_of(width: int) -> int:
    """The columns on either side of a network input of `width` columns."""
    return max(1, round(width * MARGIN / SHAPE_MULTIPLE)) * SHAPE_MULTIPLE


def with_margin(pixels: np.ndarray, margin: int) -> np.ndarray:
    """Pixels `(h, w, 3)` of a closed panorama with `margin` of the other side's on either side."""
    return np.pad(pixels, ((0, 0), (margin, margin), (0, 0)), "wrap")


def closed_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """A network shape `(height, width)` for a closed panorama: of whole strides all around."""
    height, width = shape
    return height, max(1, round(width / SHAPE_MULTIPLE)) * SHAPE_MULTIPLE
