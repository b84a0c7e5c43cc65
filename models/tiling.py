"""Photos far larger than the network's input, in overlapping windows and without seams.

A network that is fed a window sees padding beside its edges where the photo continues. So the
logits next to an inner edge are dropped, those behind them fade in, and where windows overlap the
weighted mean is taken. Windows start at multiples of `SHAPE_MULTIPLE`: there the network's strides
fall on the same pixels as in the whole photo. A network that sees no further than the dropped
margin gives the logits of the whole photo, up to rounding. Others differ as much as what they miss
matters: a mean over the whole input, as in the default model, becomes one over the window.

Windows go from left to right and from top to bottom, and rows of the mask are filled as soon as no
window to come overlaps them. So the logits in memory are those of one row of windows.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from models.inputs import SHAPE_MULTIPLE
from models.upsampling import bands_to_mask

OVERLAP = 1 / 4
"""Least overlap of neighbouring windows, as a share of the window's side."""

MARGIN = 3 / 8
"""The part of the overlap next to the window's edge that is dropped; as much is next to the other
window's edge, and the logits fade over what is left."""

Predict = Callable[[np.ndarray], np.ndarray]
"""uint8 RGB `(N, h, w, 3)` to float32 logits `(N, h / stride, w / stride, classes)`."""


def segment_windows(
    pixels: np.ndarray,
    predict: Predict,
    window: tuple[int, int],
    height: int,
    width: int,
    batch_size: int = 1,
    margin: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Class ids and class counts of a photo that is segmented in overlapping windows.

    Args:
        pixels: uint8 RGB of shape `(h, w, 3)`, of any size. What is missing to whole multiples of
            `SHAPE_MULTIPLE` and to one window is mirrored at the bottom and the right.
        predict: the network. It gets `batch_size` windows at a time; the last ones may be blank.
        window: height and width of a window, multiples of `SHAPE_MULTIPLE`.
        height: rows of the mask.
        width: columns of the mask.
        batch_size: windows in a batch.
        margin: columns of pixels on either side that the mask leaves out, a multiple of
            `SHAPE_MULTIPLE` as all columns are then; see `models.upsampling.neighbours`.

    Returns:
        The mask, uint8 of shape `(height, width)`, and the pixels of each class, int64 of shape
        `(classes,)`, which add up to `height * width`.

    Raises:
        ValueError: the sides of the window are no multiples of `SHAPE_MULTIPLE`, the network's
            stride does not divide it, or logits are NaN or infinite.
    """
    rows, columns = (_Axis(*sizes) for sizes in zip(pixels.shape, window, strict=False))
    logits = _predict_windows(pixels, predict, rows, columns, batch_size)
    first = next(logits)
    stride = window[0] // first.shape[0]
    if SHAPE_MULTIPLE % stride:
        raise ValueError(
            f"a network with an output stride of {stride} cannot be run in windows: it has to "
            f"divide {SHAPE_MULTIPLE}"
        )
    bands = _blend(itertools.chain([first], logits), rows, columns, stride)
    extent = pixels.shape[0] / stride, (pixels.shape[1] - 2 * margin) / stride
    shape = rows.padded // stride, columns.padded // stride
    return bands_to_mask(bands, shape, extent, height, width, margin // stride)


@dataclass(frozen=True)
class _Axis:
    """Where the windows lie along one axis of a photo.

    Attributes:
        size: pixels of the photo.
        side: pixels of a window.
    """

    size: int
    side: int

    def __post_init__(self):
        if self.side < 1 or self.side % SHAPE_MULTIPLE:
            raise ValueError(
                f"a side of the window has {self.side} pixels, expected a multiple of "
                f"{SHAPE_MULTIPLE}"
            )

    @property
    def padded(self) -> int:
        """Pixels that the windows cover."""
        return max(self.side, _ceil(self.size, SHAPE_MULTIPLE) * SHAPE_MULTIPLE)

    @property
    def step(self) -> int:
        """Most pixels from one window to the next."""
        return max(1, int(self.side * (1 - OVERLAP)) // SHAPE_MULTIPLE) * SHAPE_MULTIPLE

    @property
    def starts(self) -> list[int]:
        """The first pixel of each window; as few as the step allows, evenly spread."""
        steps = _ceil(self.padded - self.side, self.step)
        positions = (self.padded - self.side) // SHAPE_MULTIPLE
        return [number * positions // max(1, steps) * SHAPE_MULTIPLE for number in range(steps + 1)]

    def weights(self, stride: int) -> np.ndarray:
        """What each window counts for in each of its logits; over all windows they add up to 1.

        Returns:
            float32 of shape `(windows, side / stride)`.
        """
        overlap = self.side - self.step
        margin = MARGIN * overlap
        distance = (np.arange(self.side // stride) + 0.5) * stride
        fading = np.clip((distance - margin) / max(1, overlap - 2 * margin), 0, 1)
        weights = np.ones((len(self.starts), len(distance)))
        weights[1:] *= fading
        weights[:-1] *= fading[::-1]
        totals = np.zeros(self.padded // stride)
        parts = [totals[start // stride :][: len(distance)] for start in self.starts]
        for part, of_window in zip(parts, weights, strict=True):
            part += of_window
        return (weights / parts).astype(np.float32)


def _predict_windows(
    pixels: np.ndarray, predict: Predict, rows: _Axis, columns: _Axis, batch_size: int
) -> Iterator[np.ndarray]:
    """The logits of each window, row by row."""
    corners = list(itertools.product(rows.starts, columns.starts))
    for start in range(0, len(corners), batch_size):
        part = corners[start : start + batch_size]
        batch = np.zeros((batch_size, rows.side, columns.side, 3), np.uint8)
        for image, (top, left) in zip(batch, part, strict=False):
            inside = pixels[top : top + rows.side, left : left + columns.side]
            missing = [(0, a - b) for a, b in zip(image.shape, inside.shape, strict=True)]
            image[:] = np.pad(inside, missing, "symmetric")
        logits = predict(batch)[: len(part)]
        if not np.isfinite(logits).all():
            raise ValueError("the network's output is not finite (NaN or infinity)")
        yield from logits


def _blend(
    windows: Iterator[np.ndarray], rows: _Axis, columns: _Axis, stride: int
) -> Iterator[np.ndarray]:
    """Bands of weighted means, `SHAPE_MULTIPLE` pixels high, so that copies of them are small.

    Each is valid until the next one is asked for.
    """
    row_weights, column_weights = rows.weights(stride), columns.weights(stride)
    band = np.zeros(0, np.float32)
    for top, below, of_row in zip(
        rows.starts, [*rows.starts[1:], rows.padded], row_weights, strict=True
    ):
        for left, of_column in zip(columns.starts, column_weights, strict=True):
            logits = next(windows)
            height, width, classes = logits.shape
            if not band.size:
                band = np.zeros((height, columns.padded // stride, classes), np.float32)
            start = left // stride
            weights = of_row[:, None, None] * of_column[None, :, None]
            band[:, start : start + width] += logits * weights
        done = (below - top) // stride
        for start in range(0, done, SHAPE_MULTIPLE // stride):
            yield band[start : start + SHAPE_MULTIPLE // stride]
        band[: len(band) - done] = band[done:]
        band[len(band) - done :] = 0


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)
