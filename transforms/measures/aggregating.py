"""Aggregating: means of shares and indicators per group, hexagon or archive.

Sums are tables with a row per key, and sums of the same key can be added, so rows can be aggregated
one table at a time, on many machines.
"""

from collections.abc import Iterable, Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.classes import ClassTable
from models.indicators import Indicators
from transforms.output import columns

KEY = "key"
IMAGES = "images"
"""First columns of sums and of means; the columns of the measures follow."""

ARCHIVE = ""
"""The only key of a whole archive."""

_SUM, _COUNT = "sum:", "count:"
"""Prefixes of a measure's sum, and of the number of photos for which it is defined."""


def measures(classes: ClassTable, indicators: Indicators) -> list[str]:
    """The columns added by `deriving.derive` that are averaged: shares, then indicators."""
    return [*(columns.SHARE_PREFIX + key for key in classes.keys), *indicators.keys]


def group_keys(table: pa.Table) -> pa.ChunkedArray:
    """The group of each photo, as keys for `sums_per_key`."""
    return table[columns.GROUP]


def archive_keys(table: pa.Table) -> pa.Array:
    """The same key for each photo."""
    return pa.repeat(ARCHIVE, len(table))


def sums_per_key(
    table: pa.Table, keys: pa.Array | pa.ChunkedArray, wanted: Sequence[str]
) -> pa.Table:
    """Sums over the photos of each key.

    Args:
        table: rows with the wanted columns, as returned by `deriving.derive`.
        keys: text, the key of each row; rows with a null key are ignored.
        wanted: columns of numbers; nulls are not counted.

    Returns:
        A row per key: `key`, `images`, and the sum and the count of each wanted column.
    """
    values = {KEY: keys, IMAGES: pa.repeat(1, len(table))}
    for name in wanted:
        column = pc.cast(table[name], pa.float64())
        values[_SUM + name] = pc.fill_null(column, 0.0)
        values[_COUNT + name] = pc.cast(pc.is_valid(column), pa.int64())
    rows = pa.table(values)
    return _total(rows.filter(pc.is_valid(rows[KEY])))


def add_sums(sums: Iterable[pa.Table]) -> pa.Table:
    """Add sums of the same measures; at least one must be given."""
    return reduce(lambda total, more: _total(pa.concat_tables([total, more])), sums)


def means(sums: pa.Table) -> pa.Table:
    """The means over the photos of each key.

    Returns:
        A row per key, sorted by key: `key`, `images`, then a float64 column per measure: its mean
        over the photos for which it is defined, null if there are none.
    """
    values = {KEY: sums[KEY], IMAGES: sums[IMAGES]}
    for name in sums.column_names:
        if name.startswith(_SUM):
            measure = name.removeprefix(_SUM)
            total, count = sums[name].to_numpy(), sums[_COUNT + measure].to_numpy()
            mean = np.divide(total, count, out=np.full(len(sums), np.nan), where=count > 0)
            values[measure] = pa.array(mean, pa.float64(), from_pandas=True)
    return pa.table(values).sort_by(KEY)


def _total(sums: pa.Table) -> pa.Table:
    names = [name for name in sums.column_names if name != KEY]
    total = sums.group_by(KEY).aggregate([(name, "sum") for name in names])
    # The chunks are slices, and a pickled slice would include the whole array.
    total = total.combine_chunks()
    return total.rename_columns([name.removesuffix("_sum") for name in total.column_names])
