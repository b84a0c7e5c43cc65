"""`models.upsampling.logits_to_mask` as operations of Keras, on the device of the logits.

Masks are computed in tiles of one size, so that one compiled program serves photos of all sizes.
Neighbours and weights of the interpolation come from the host, and the operations are the same in
the same order: masks differ only by rounding, where two logits are almost equal.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.upsampling import neighbours

TILE_WIDTH = 1024
"""Columns of a tile."""

TILE_VALUES = 1 << 26
"""Most values of a tile, over all photos and classes: 256 MiB in float32."""

OUTSIDE = -1
"""Marks pixels of a tile that are outside a photo's mask."""

Mask = tuple[np.ndarray, np.ndarray]
"""Class ids and class counts, as returned by `models.upsampling.logits_to_mask`."""


class DeviceMask(NamedTuple):
    """What an engine that makes masks gives for a photo.

    Attributes:
        mask: class ids, uint8 `(height, width)`.
        counts: pixels of each class, int64 `(classes,)`.
        grid: logits of every so many rows and columns, float32 `(rows, columns, classes)`; see
            `models.uncertainty.grid_step`.
    """

    mask: np.ndarray
    counts: np.ndarray
    grid: np.ndarray


class Tile(NamedTuple):
    """A part of the masks of a batch.

    Attributes:
        top: its first row in the masks.
        left: its first column.
        labels: class ids, uint8 `(N, tile height, TILE_WIDTH)`, on the device.
        counts: pixels of each class, int32 `(N, classes)`, on the device.
    """

    top: int
    left: int
    labels: Any
    counts: Any


def tile_height(photos: int, classes: int) -> int:
    """Rows of a tile: a power of two up to its width, within `TILE_VALUES`."""
    rows = max(1, TILE_VALUES // (photos * classes * TILE_WIDTH))
    return min(TILE_WIDTH, 1 << rows.bit_length() - 1)


def specs(shape: Sequence[int]) -> list[Any]:
    """Shapes and dtypes of the arguments of `fill_tile` for logits `(N, h, w, classes)`."""
    from keras import KerasTensor

    photos, _, _, classes = shape
    height = tile_height(photos, classes)
    return [
        KerasTensor(shape, "float32"),
        KerasTensor((2, photos, height), "int32"),
        KerasTensor((photos, height), "float32"),
        KerasTensor((2, photos, TILE_WIDTH), "int32"),
        KerasTensor((photos, TILE_WIDTH), "float32"),
    ]


def start(
    program: Callable, logits: Any, sizes: Sequence[tuple[int, int]], margin: int = 0
) -> list[Tile]:
    """Start computing the masks of the first photos of a batch, at `sizes` (height, width).

    `program` is `fill_tile`, compiled for `specs`. `margin` columns of the logits are cropped on
    each side.
    """
    from keras import ops

    photos, height, width, classes = logits.shape
    heights, widths = zip(*sizes, strict=True)
    rows = list(_parts(height, heights, photos, tile_height(photos, classes)))
    columns = list(_parts(width, widths, photos, TILE_WIDTH, margin))
    return [
        Tile(top, left, *program(logits, *map(ops.convert_to_tensor, (*of_rows, *of_columns))))
        for top, *of_rows in rows
        for left, *of_columns in columns
    ]


def assemble(tiles: Sequence[Tile], sizes: Sequence[tuple[int, int]]) -> list[Mask]:
    """Wait for the tiles, and assemble the masks of the first photos, at `sizes`."""
    from keras import ops

    masks = [np.empty(size, np.uint8) for size in sizes]
    for tile in tiles:
        for mask, labels in zip(masks, ops.convert_to_numpy(tile.labels), strict=False):
            part = mask[tile.top : tile.top + len(labels), tile.left : tile.left + TILE_WIDTH]
            part[:] = labels[: part.shape[0], : part.shape[1]]
    counts = np.stack([ops.convert_to_numpy(tile.counts) for tile in tiles])
    return list(zip(masks, counts.sum(axis=0, dtype=np.int64), strict=False))


def _parts(
    source: int, targets: Sequence[int], photos: int, tile: int, margin: int = 0
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield start, neighbours `(2, N, tile)` and weights `(N, tile)` of tiles along one axis."""
    pixels = -(-max(targets) // tile) * tile
    cells = np.full((2, photos, pixels), OUTSIDE, np.int32)
    weights = np.zeros((photos, pixels), np.float32)
    for photo, target in enumerate(targets):
        before, after, weight, _ = neighbours(source, target, margin=margin)
        cells[:, photo, :target] = before, after
        weights[photo, :target] = weight
    for start in range(0, pixels, tile):
        part = slice(start, start + tile)
        yield start, cells[:, :, part], weights[:, part]


def fill_tile(logits, rows, row_weights, columns, column_weights):
    """Interpolate logits, take the class of the highest, and count pixels inside the masks."""
    from keras import ops

    inside = (rows[0] != OUTSIDE)[:, :, None] & (columns[0] != OUTSIDE)[:, None, :]
    tops, bottoms = (_of_each_photo(logits, cells, axis=0) for cells in _clip(rows))
    lines = tops + (bottoms - tops) * row_weights[:, :, None, None]
    lefts, rights = (_of_each_photo(lines, cells, axis=1) for cells in _clip(columns))
    values = lefts + (rights - lefts) * column_weights[:, None, :, None]
    labels = ops.argmax(values, axis=-1)
    ones = ops.one_hot(ops.where(inside, labels, OUTSIDE), logits.shape[-1], dtype="int32")
    return ops.cast(labels, "uint8"), ops.sum(ones, axis=(1, 2))


def _of_each_photo(values, cells, axis: int):
    """Take the cells of each photo, `(N, cells)`, along an axis of its values."""
    from keras import ops

    return ops.vectorized_map(lambda pair: ops.take(*pair, axis=axis), (values, cells))


def _clip(cells):
    from keras import ops

    return ops.unstack(ops.maximum(cells, 0))
