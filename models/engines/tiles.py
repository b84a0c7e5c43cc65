"""`models.upsampling.logits_to_mask` as TensorFlow operations, on the device of the logits.

Masks are computed in tiles of one size, so that one compiled program serves photos of all sizes.
Neighbours and weights of the interpolation come from the host, and the operations are the same in
the same order: masks differ only by rounding, where two logits are almost equal.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.upsampling import neighbours

if TYPE_CHECKING:
    import tensorflow as tf

TILE_WIDTH = 1024
"""Columns of a tile."""

TILE_VALUES = 1 << 26
"""Most values of a tile, over all photos and classes: 256 MiB in float32."""

OUTSIDE = -1
"""Marks pixels of a tile that are outside a photo's mask."""

Mask = tuple[np.ndarray, np.ndarray]
"""Class ids and class counts, as returned by `models.upsampling.logits_to_mask`."""


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
    labels: "tf.Tensor"
    counts: "tf.Tensor"


def tile_height(photos: int, classes: int) -> int:
    """Rows of a tile: a power of two up to its width, within `TILE_VALUES`."""
    rows = max(1, TILE_VALUES // (photos * classes * TILE_WIDTH))
    return min(TILE_WIDTH, 1 << rows.bit_length() - 1)


def compile_tile(shape: Sequence[int], jit_compile: bool) -> Callable:
    """Compile `_fill_tile` for logits of one shape `(N, h, w, classes)`."""
    import tensorflow as tf

    photos, _, _, classes = shape
    height = tile_height(photos, classes)
    return tf.function(_fill_tile, jit_compile=jit_compile, autograph=False).get_concrete_function(
        tf.TensorSpec(shape, tf.float32),
        tf.TensorSpec((2, photos, height), tf.int32),
        tf.TensorSpec((photos, height), tf.float32),
        tf.TensorSpec((2, photos, TILE_WIDTH), tf.int32),
        tf.TensorSpec((photos, TILE_WIDTH), tf.float32),
    )


def start(
    program: Callable, logits: "tf.Tensor", sizes: Sequence[tuple[int, int]], margin: int = 0
) -> list[Tile]:
    """Start computing the masks of the first photos of a batch, at `sizes` (height, width).

    `margin` columns of the logits are cropped on each side.
    """
    import tensorflow as tf

    photos, height, width, classes = logits.shape
    heights, widths = zip(*sizes, strict=True)
    rows = list(_parts(height, heights, photos, tile_height(photos, classes)))
    columns = list(_parts(width, widths, photos, TILE_WIDTH, margin))
    return [
        Tile(top, left, *program(logits, *map(tf.constant, (*of_rows, *of_columns))))
        for top, *of_rows in rows
        for left, *of_columns in columns
    ]


def assemble(tiles: Sequence[Tile], sizes: Sequence[tuple[int, int]]) -> list[Mask]:
    """Wait for the tiles, and assemble the masks of the first photos, at `sizes`."""
    masks = [np.empty(size, np.uint8) for size in sizes]
    for tile in tiles:
        for mask, labels in zip(masks, tile.labels.numpy(), strict=False):
            part = mask[tile.top : tile.top + len(labels), tile.left : tile.left + TILE_WIDTH]
            part[:] = labels[: part.shape[0], : part.shape[1]]
    counts = np.stack([tile.counts.numpy() for tile in tiles]).sum(axis=0, dtype=np.int64)
    return list(zip(masks, counts, strict=False))


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


def _fill_tile(logits, rows, row_weights, columns, column_weights):
    """Interpolate logits, take the class of the highest, and count pixels inside the masks."""
    import tensorflow as tf

    inside = (rows[0] != OUTSIDE)[:, :, None] & (columns[0] != OUTSIDE)[:, None, :]
    tops, bottoms = (tf.gather(logits, cells, axis=1, batch_dims=1) for cells in _clip(rows))
    lines = tops + (bottoms - tops) * row_weights[:, :, None, None]
    lefts, rights = (tf.gather(lines, cells, axis=2, batch_dims=1) for cells in _clip(columns))
    values = lefts + (rights - lefts) * column_weights[:, None, :, None]
    labels = tf.argmax(values, axis=-1, output_type=tf.int32)
    ones = tf.one_hot(tf.where(inside, labels, OUTSIDE), logits.shape[-1], dtype=tf.int32)
    return tf.cast(labels, tf.uint8), tf.reduce_sum(ones, axis=(1, 2))


def _clip(cells):
    import tensorflow as tf

    return tf.unstack(tf.maximum(cells, 0))
