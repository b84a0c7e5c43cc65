"""Reading: the columns of statistics rows that a report needs, many small files at a time."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from transforms.output import archives, columns
from transforms.output.archives import Archive

ROWS = 16_384
"""Rows to collect before processing; a compacted file may have more."""

OF_PHOTO = {
    columns.IMAGE: pa.string(),
    columns.URI: pa.string(),
    columns.VERSION: pa.string(),
    columns.MASK: pa.string(),
    columns.GROUP: pa.string(),
    columns.WIDTH: pa.int64(),
    columns.HEIGHT: pa.int64(),
    columns.LATITUDE: pa.float64(),
    columns.LONGITUDE: pa.float64(),
    columns.CAPTURED_AT: pa.timestamp("us"),
    columns.HEADING: pa.float64(),
    columns.PROJECTION: pa.string(),
    columns.CONFIDENCE: pa.float64(),
    columns.UNCERTAINTY: pa.float64(),
    columns.UNLIKE_TRAINING: pa.bool_(),
    columns.PRECISION: pa.string(),
}
"""Columns of a photo's metadata."""


def read_photos(
    archive: Archive, files: Sequence[str], least_rows: int = ROWS
) -> Iterator[pa.Table]:
    """The rows of the archive's model in statistics files.

    Args:
        archive: whose rows.
        files: paths of statistics files.
        least_rows: rows of a table at the least, but for the last one.

    Returns:
        Tables with `OF_PHOTO`, pixels and solid angles; null where a file has no such column, or
        one of another type, which is the user's own.

    Raises:
        StorageError: a file cannot be read, is damaged, or lacks a column.
    """
    keys = archive.classes.keys
    kinds = OF_PHOTO | {columns.PIXELS_PREFIX + key: pa.int64() for key in keys}
    kinds |= {columns.SOLID_ANGLE_PREFIX + key: pa.float64() for key in keys}
    waiting: list[pa.Table] = []
    for table in archives.statistics_of(archive, files):
        if len(table):
            waiting.append(pa.table({name: _column(table, name, k) for name, k in kinds.items()}))
        if sum(map(len, waiting)) >= least_rows:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _column(table: pa.Table, name: str, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    if name in table.column_names and table[name].type == kind:
        return table[name]
    return pa.nulls(len(table), kind)
