"""Samples: from the values of a file, of any depth, to 8 bits, and from any colour space to RGB.

Of integers the upper 8 bits are kept. The scale of other values is found by `scale_of`.
"""

from dataclasses import dataclass

import numpy as np

from transforms.photos.pictures import DecodeError

UNSIGNED, SIGNED, FLOAT = 1, 2, 3
"""The kinds of numbers, as codes of the TIFF tag SampleFormat."""

_CONTAINED_BITS = (8, 16)
"""Depths of integers that are kept in wider or signed ones, or as floats."""


@dataclass(frozen=True)
class Scale:
    """How values become 0 to 255.

    Attributes:
        black: the value of black.
        bits: depth of the integers above black; 0: the values are scaled up to `white`.
        white: the value of white.
    """

    black: float = 0
    bits: int = 0
    white: float = 1

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The values as uint8; not a number is black."""
        if not self.bits:
            scaled = (values.astype(np.float64) - self.black) * (255 / (self.white - self.black))
            return np.rint(np.nan_to_num(scaled, nan=0, posinf=255, neginf=0).clip(0, 255)).astype(
                np.uint8
            )
        if self.black:
            values = values.astype(np.int64) - int(self.black)
        if self.bits < 8:
            top = (1 << self.bits) - 1
            return ((values.astype(np.uint16) * 255 + top // 2) // top).astype(np.uint8)
        return (values >> (self.bits - 8)).astype(np.uint8)


@dataclass(frozen=True)
class Extent:
    """The lowest and the highest finite value of an image."""

    lowest: float = np.inf
    highest: float = -np.inf

    def with_values(self, values: np.ndarray) -> "Extent":
        """The extent of these values too."""
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if not finite.size:
            return self
        return Extent(min(self.lowest, finite.min().item()), max(self.highest, finite.max().item()))


def needs_extent(kind: int, bits: int) -> bool:
    """Whether the scale of values of this kind and depth depends on the values."""
    return kind != UNSIGNED or bits > 16


def scale_of(
    kind: int,
    bits: int,
    extent: Extent = Extent(0, 0),
    declared: tuple[float, float] | None = None,
) -> Scale:
    """The scale of an image, by the first of these rules that applies.

    Integers: a declared highest value of 2^n - 1 says that n bits are used, as of a camera of 12
    bits. Integers of more than 16 bits, and signed ones without a negative value, are taken as 8
    or 16 bits if all values fit into them. Otherwise all bits are used, and signed values are
    shifted to unsigned ones.

    Floats: declared values of black and white; 0 to 1 if no value is outside; 0 to 255 or 65535,
    as converted from integers, if no value is outside and more than half of the range is used;
    otherwise, the finite values from the lowest to the highest.

    Args:
        kind: `UNSIGNED`, `SIGNED` or `FLOAT`.
        bits: bits per value.
        extent: the extent of all values, where `needs_extent` says so.
        declared: lowest and highest value as declared by the file.

    Raises:
        DecodeError: floats without two finite values to tell black from white.
    """
    if kind == FLOAT:
        return _float_scale(extent, declared)
    signed = kind == SIGNED
    if signed and extent.lowest < 0:
        return Scale(-(1 << (bits - 1)), bits)
    own = bits - signed
    highest = int(declared[1]) if declared else 0
    used = highest.bit_length()
    if (
        8 <= used <= own
        and highest == (1 << used) - 1
        and (not needs_extent(kind, bits) or extent.highest <= highest)
    ):
        return Scale(bits=used)
    if needs_extent(kind, bits):
        fitting = (n for n in _CONTAINED_BITS if n < own and extent.highest < 1 << n)
        return Scale(bits=next(fitting, own))
    return Scale(bits=own)


def _float_scale(extent: Extent, declared: tuple[float, float] | None) -> Scale:
    lowest, highest = extent.lowest, extent.highest
    if declared and np.isfinite(declared).all() and declared[0] < declared[1]:
        return Scale(declared[0], white=declared[1])
    if lowest > highest:
        raise DecodeError("no finite value among its samples")
    if lowest >= 0:
        for white in (1, *((1 << bits) - 1 for bits in _CONTAINED_BITS)):
            if highest <= white and (white == 1 or 2 * highest > white):
                return Scale(white=white)
    if lowest == highest:
        raise DecodeError(f"all samples are {lowest:g}, so their scale is unknown")
    return Scale(lowest, white=highest)


def rgb_of_grey(grey: np.ndarray) -> np.ndarray:
    """uint8 grey `(h, w)` as RGB `(h, w, 3)`."""
    return np.repeat(grey[..., None], 3, axis=-1)


def rgb_of_cmyk(inks: np.ndarray) -> np.ndarray:
    """uint8 `(h, w, 4)`, 0: no ink, as RGB `(h, w, 3)`, without a colour profile."""
    light = 255 - inks.astype(np.uint16)
    return ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)


def rgb_of_ycbcr(
    values: np.ndarray, coefficients: tuple[float, ...], reference: tuple[float, ...]
) -> np.ndarray:
    """uint8 `(h, w, 3)` as RGB, by TIFF 6.0, sections 20 and 21.

    Args:
        values: luma and two colour differences.
        coefficients: the weights of red, green and blue in luma.
        reference: black and white of each, six values.
    """
    red, green, blue = coefficients
    black, white = np.array(reference, np.float32).reshape(3, 2).T
    codes = (values - black) * (np.array([255, 127, 127], np.float32) / (white - black))
    luma, for_blue, for_red = np.moveaxis(codes, -1, 0)
    r = luma + for_red * (2 - 2 * red)
    b = luma + for_blue * (2 - 2 * blue)
    g = (luma - blue * b - red * r) / green
    return np.rint(np.stack([r, g, b], -1).clip(0, 255)).astype(np.uint8)


_WHITE_D50 = np.array([0.9642, 1.0, 0.8249])
_SRGB_OF_XYZ_D50 = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)
"""Linear sRGB of XYZ with the white D50, adapted by Bradford's method (IEC 61966-2-1)."""


def rgb_of_lab(lab: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of the white D50, float `(h, w, 3)`, as sRGB uint8 `(h, w, 3)`."""
    lightness = (lab[..., 0] + 16) / 116
    roots = np.stack([lightness + lab[..., 1] / 500, lightness, lightness - lab[..., 2] / 200], -1)
    xyz = np.where(roots > 6 / 29, roots**3, (roots - 4 / 29) * (3 * (6 / 29) ** 2)) * _WHITE_D50
    linear = (xyz @ _SRGB_OF_XYZ_D50.T).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255).astype(np.uint8)


def without_alpha(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The colours of uint8 RGB `(h, w, 3)` that were multiplied by `alpha` `(h, w)`."""
    opacity = np.maximum(alpha, 1).astype(np.uint32)[..., None]
    return np.minimum((rgb * np.uint32(255) + opacity // 2) // opacity, 255).astype(np.uint8)
