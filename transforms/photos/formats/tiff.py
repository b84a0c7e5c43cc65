"""TIFF: which of its images is the photo, and its samples as the tags describe them.

Sources: TIFF 6.0 (Adobe, 1992); Adobe's technical notes on TIFF of 2002 (compressions 7 and 8) and
2005 (predictor 3); BigTIFF. What the tags do not describe surely is refused.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from transforms.photos import ifd, metadata, samples
from transforms.photos.formats.tiff_segments import (
    BLACK_IS_ZERO,
    CIE_LAB,
    CMYK,
    ICC_LAB,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    Layout,
    Tag,
    blocks,
    read_layout,
)
from transforms.photos.pictures import DecodeError, Picture

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_MAX_IMAGES = 1000
"""Images of a file that are searched for the photo."""

_REDUCED_OR_MASK = 1 | 4
"""Bits of NewSubfileType."""
_OLD_REDUCED = 2
"""Value of SubfileType."""

_COLOURS = {
    **{WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1},
    **{CMYK: 4, YCBCR: 3, CIE_LAB: 3, ICC_LAB: 3},
}
"""Samples per pixel that are colours."""

_LAB = (CIE_LAB, ICC_LAB)

_ASSOCIATED_ALPHA = 1
_CMYK_INKS = 1

_LUMA = (0.299, 0.587, 0.114)
_REFERENCE = (0, 255, 128, 255, 128, 255)
"""Defaults of YCbCrCoefficients and of ReferenceBlackWhite for YCbCr."""


@dataclass(frozen=True, eq=False)
class TiffPicture(Picture):
    """An image of a TIFF.

    Attributes:
        directory: its tags.
        layout: where its samples are.
        photometric: what they mean.
        alpha: index of the alpha that the colours were multiplied by; None without.
    """

    directory: ifd.Directory
    layout: Layout
    photometric: int
    alpha: int | None = None
    _palette: np.ndarray = field(default_factory=lambda: np.empty((0, 3), np.uint8))

    @property
    def working_bytes(self) -> int:
        return self.layout.working_bytes + 3 * self.width * self.height

    def bands(self) -> Iterator[np.ndarray]:
        used = [*range(_COLOURS[self.photometric])]
        if self.alpha is not None:
            used.append(self.alpha)
        scale = self._scale(used)
        for values in blocks(self.directory.data, self.layout, used):
            colours = self._rgb(values, scale)
            if self.alpha is None:
                yield colours
            else:
                yield samples.without_alpha(colours, scale.apply(values[..., -1]))

    def _scale(self, used: list[int]) -> samples.Scale:
        kind, bits = self.layout.kind, self.layout.bits
        extent = samples.Extent(0, 0)
        if samples.needs_extent(kind, bits) and self.photometric not in _LAB:
            extent = samples.Extent()
            colours = used[: _COLOURS[self.photometric]]
            for values in blocks(self.directory.data, self.layout, colours):
                extent = extent.with_values(values)
        return samples.scale_of(kind, bits, extent, self._declared())

    def _declared(self) -> tuple[float, float] | None:
        """The values of black and white, if the file says them."""
        lowest = _numbers(self.directory, Tag.S_MIN) or _numbers(self.directory, Tag.MIN)
        highest = _numbers(self.directory, Tag.S_MAX) or _numbers(self.directory, Tag.MAX)
        return (min(lowest, default=0.0), max(highest)) if highest else None

    def _rgb(self, values: np.ndarray, scale: samples.Scale) -> np.ndarray:
        """The colours of samples `(rows, width, samples)` as uint8 RGB."""
        if self.photometric == PALETTE:
            return self._palette[values[..., 0]]
        if self.photometric in _LAB:
            return samples.rgb_of_lab(_lab(values, self.layout.bits, self.photometric))
        codes = scale.apply(values[..., : _COLOURS[self.photometric]])
        if self.photometric == CMYK:
            return samples.rgb_of_cmyk(codes)
        if self.photometric == YCBCR:
            luma = _numbers(self.directory, Tag.YCBCR_COEFFICIENTS) or _LUMA
            reference = _numbers(self.directory, Tag.REFERENCE_BLACK_WHITE) or _REFERENCE
            return samples.rgb_of_ycbcr(codes, luma, reference)
        if self.photometric == RGB:
            return codes
        return samples.rgb_of_grey(
            255 - codes[..., 0] if self.photometric == WHITE_IS_ZERO else codes[..., 0]
        )


def open_tiff(data: bytes) -> TiffPicture:
    """Open a TIFF; raises DecodeError."""
    try:
        header = ifd.read_header(data)
        first = ifd.read_directory(data, header, header.first)
    except ifd.TagError as error:
        raise DecodeError(f"damaged header: {error}") from error
    photo, further = _photo(data, header, first)
    layout = read_layout(photo)
    photometric = _photometric(photo, layout)
    extra = photo.integers(Tag.EXTRA_SAMPLES)
    alpha = None
    if _ASSOCIATED_ALPHA in extra and photometric in (RGB, YCBCR, BLACK_IS_ZERO, WHITE_IS_ZERO):
        alpha = _COLOURS[photometric] + extra.index(_ASSOCIATED_ALPHA)
    if _COLOURS[photometric] + (alpha is not None) > layout.samples:
        raise DecodeError(f"{layout.samples} samples per pixel are too few for its colours")
    return TiffPicture(
        layout.width,
        layout.height,
        metadata.from_directories(header, photo, first),
        photo,
        layout,
        photometric,
        alpha,
        _palette(photo, layout.bits) if photometric == PALETTE else np.empty((0, 3), np.uint8),
        further=further,
    )


def _photo(data: bytes, header: ifd.Header, first: ifd.Directory) -> tuple[ifd.Directory, int]:
    """The first image that is not a smaller copy or a mask, and the number of others like it."""
    whole: list[ifd.Directory] = []
    reduced: list[ifd.Directory] = []
    for image in islice(_images(data, header, first), _MAX_IMAGES):
        is_reduced = (
            image.number(Tag.NEW_SUBFILE, 0) & _REDUCED_OR_MASK
            or image.number(Tag.SUBFILE, 0) == _OLD_REDUCED
        )
        (reduced if is_reduced else whole).append(image)
    if whole:
        return whole[0], len(whole) - 1
    return max(reduced, key=lambda one: one.number(Tag.WIDTH, 0) * one.number(Tag.HEIGHT, 0)), 0


def _images(data: bytes, header: ifd.Header, first: ifd.Directory) -> Iterator[ifd.Directory]:
    """All images of a file; those within another come after it."""
    for page in ifd.directories(data, header, first.at, _MAX_IMAGES):
        yield page
        for at in page.integers(Tag.SUB_DIRECTORIES):
            with suppress(ifd.TagError):
                yield ifd.read_directory(data, header, at)


def _photometric(photo: ifd.Directory, layout: Layout) -> int:
    """What the decompressed samples mean; raises DecodeError where that is unsure."""
    photometric, bits, kind = layout.photometric, layout.bits, layout.kind
    if photometric not in _COLOURS:
        raise DecodeError(f"unsupported photometric interpretation {photometric}")
    if layout.decodes_to_rgb:
        return RGB
    if photometric == CMYK and photo.number(Tag.INK_SET, _CMYK_INKS) != _CMYK_INKS:
        raise DecodeError("its inks are not cyan, magenta, yellow and black")
    if (
        (photometric == PALETTE and (kind != samples.UNSIGNED or bits > 16))
        or (photometric == YCBCR and (kind != samples.UNSIGNED or bits != 8))
        or (photometric in _LAB and (kind == samples.FLOAT or bits not in (8, 16)))
    ):
        raise DecodeError(
            f"unsupported samples of {bits} bits, format {kind}, of the photometric "
            f"interpretation {photometric}"
        )
    return photometric


def _palette(photo: ifd.Directory, bits: int) -> np.ndarray:
    """The colours of the values, uint8 `(2 ** bits, 3)`; raises DecodeError.

    Entries have 16 bits. Some programs write 8, which shows where none is larger.
    """
    entries = np.array(photo.integers(Tag.COLOR_MAP), np.int64)
    if len(entries) != 3 << bits or entries.min() < 0 or entries.max() > 65535:
        raise DecodeError(f"a palette of {len(entries)} entries, expected {3 << bits}")
    wide = entries.max() > 255
    return (entries >> (8 if wide else 0)).astype(np.uint8).reshape(3, -1).T.copy()


def _lab(values: np.ndarray, bits: int, photometric: int) -> np.ndarray:
    """L*, a* and b* from their codes."""
    codes = values.astype(np.int64) & ((1 << bits) - 1)
    step = 1 << (bits - 8)
    a_b = codes[..., 1:3]
    if photometric == CIE_LAB:
        a_b = np.where(a_b >= 128 * step, a_b - 256 * step, a_b)
        top = (1 << bits) - 1
    else:
        a_b = a_b - 128 * step
        top = 255 * step
    return np.concatenate([codes[..., :1] * (100 / top), a_b / step], -1)


def _numbers(directory: ifd.Directory, tag: int) -> tuple[float, ...]:
    """The values of a tag as floats; empty if any is unknown."""
    values: tuple[Any, ...] = tuple(directory.value(tag))
    return () if any(value is None for value in values) else tuple(map(float, values))
