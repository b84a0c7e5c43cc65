"""Positions: which photos have one."""

import pyarrow as pa
import pyarrow.compute as pc

from transforms.output import columns


def has_position(table: pa.Table) -> pa.ChunkedArray:
    """Whether each photo has a position: both its latitude and its longitude are known."""
    return pc.and_(pc.is_valid(table[columns.LATITUDE]), pc.is_valid(table[columns.LONGITUDE]))


def positioned(table: pa.Table) -> pa.Table:
    """The photos that have a position."""
    return table.filter(has_position(table))
