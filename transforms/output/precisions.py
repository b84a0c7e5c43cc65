"""Precisions: how many rows have masks of each precision of the network.

A mask may differ in some pixels if it is computed in another precision. The model in a row is the
same all the same: what is done in one precision is not done again in another. So each row says
which one made its mask.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from models.engines.options import Precision
from transforms.output import columns

UNKNOWN = "unknown"
"""Stands for the precision of rows of older versions, which do not say it."""

PRECISIONS = (*(entry.value for entry in Precision if entry is not Precision.AUTO), UNKNOWN)
"""What rows are counted by."""


def stated(table: pa.Table) -> pa.Array | pa.ChunkedArray:
    """What each of some statistics rows says of its precision, as text or null; see `named`."""
    try:
        return table[columns.PRECISION].cast(pa.string())
    except (KeyError, pa.ArrowException):
        return pa.nulls(len(table), pa.string())


def named(value: str | None) -> str:
    """The one of `PRECISIONS` that a row states.

    In rows of older versions a column of that name came from a manifest.
    """
    return value if value is not None and value in PRECISIONS else UNKNOWN


def count(table: pa.Table) -> Counter[str]:
    """How many of some statistics rows are of each precision."""
    found: Counter[str] = Counter()
    for entry in pc.value_counts(stated(table)).to_pylist():
        found[named(entry["values"])] += entry["counts"]
    return found


def one_of(precision: str, rows: int) -> tuple[int, ...]:
    """Counts of rows that are all of one precision, in the order of `PRECISIONS`."""
    return tuple(rows if name == precision else 0 for name in PRECISIONS)


def by_name(counts: Iterable[int]) -> dict[str, int]:
    """Counts in the order of `PRECISIONS` by name, without zeros; no counts are none of each."""
    return {name: rows for name, rows in zip(PRECISIONS, counts, strict=False) if rows}


def in_words(counts: Mapping[str, int]) -> str:
    """Counts by name in one line, largest first: `int8 980, f32 20`."""
    ordered = sorted(counts.items(), key=lambda entry: -entry[1])
    return ", ".join(f"{name} {rows}" for name, rows in ordered)
