"""Parquet: lists, reads and writes the Parquet files of an output folder.

Whatever pyarrow raises on damaged files, the error names the file and says what to do.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from transforms import storage
from transforms.flow.concurrency import map_requests
from transforms.output import columns, fencing
from transforms.output.column_groups import ROW_FIELDS
from transforms.output.schemas import FAILURE_SCHEMA, GATED_SCHEMA

FILES_PER_BLOCK = 16
"""Files that a worker reads at a time."""

ROWS_AT_ONCE = 512
"""Rows that `read_rows` holds in memory at a time."""


_CONTRACT = {
    columns.STATISTICS: (*ROW_FIELDS, pa.field(columns.GROUP, pa.string(), nullable=False)),
    columns.FAILURES: tuple(FAILURE_SCHEMA),
    columns.GATED: tuple(GATED_SCHEMA),
}
"""Columns that others rely on, by the folder of a file."""


class DamagedError(storage.StorageError):
    """A Parquet file is damaged.

    Attributes:
        reason: what is wrong, in one line without the file name.
    """

    reason = ""

    @classmethod
    def of(cls, file: str, error: Exception) -> "DamagedError":
        """Convert an error raised while reading a file to one that names the file."""
        reason = str(error).partition("\n")[0] or type(error).__name__
        output = os.path.dirname(os.path.dirname(file))
        damaged = cls(
            f"{file}: cannot be read ({reason}); "
            f"`citymask verify {output}` finds all such files, and the next run replaces them"
        )
        damaged.reason = reason
        return damaged


def files_in(output: str, folder: str) -> list[str]:
    """The Parquet files in a folder of the output, in a fixed order."""
    return [file.path for file in storage.list_folder(f"{output}/{folder}", ".parquet")]


def file_blocks(output: str, folder: str) -> Iterator[tuple[str, ...]]:
    """The files of `files_in` in blocks: remote files are fetched in parallel."""
    files = files_in(output, folder)
    for start in range(0, len(files), FILES_PER_BLOCK):
        yield tuple(files[start : start + FILES_PER_BLOCK])


@contextmanager
def opened(file: str, content: BytesIO | None = None) -> Iterator[pq.ParquetFile]:
    """Context manager: a Parquet file open for reading; converts errors raised while reading.

    Args:
        file: its path.
        content: its bytes, if already read.

    Raises:
        StorageError: a remote file cannot be fetched.
        DamagedError: the file cannot be read.
    """
    try:
        # ParquetFile opens a small file in a third of the time that `pq.read_table` takes.
        with pq.ParquetFile(content or _source(file)) as parquet:
            yield parquet
    except storage.StorageError:
        raise
    except Exception as error:  # pyarrow raises many types on damaged files.
        raise DamagedError.of(file, error) from error


def read_tables(
    files: Iterable[str],
    wanted: Sequence[str] | None = None,
    only_with: Sequence[str] = (),
    also: Sequence[str] = (),
) -> Iterator[tuple[str, pa.Table]]:
    """The path and the rows of each Parquet file.

    Args:
        files: their paths; remote files are fetched in parallel.
        wanted: columns to read; None: all.
        only_with: files that lack one of these columns are skipped.
        also: further columns to read of the files that have them.

    Raises:
        StorageError: a file cannot be read, is damaged, or lacks a column.
    """
    files = list(files)
    contents: Iterable[BytesIO | None] = [None] * len(files)
    if not all(storage.store_of(file).local_paths for file in files):
        contents = map(BytesIO, map_requests(read_bytes, files))
    for file, content in zip(files, contents, strict=True):
        with opened(file, content) as parquet:
            present = set(parquet.schema_arrow.names)
            names = None if wanted is None else [*wanted, *also]
            table = parquet.read(names) if present.issuperset(only_with) else None
            if table is not None:
                table = conformed(file, table, _contract(file))
        if table is None:
            continue
        needed = [field.name for field in _contract(file) if not field.nullable]
        if missing := set(needed if wanted is None else wanted) - present:
            raise DamagedError.of(file, ValueError(f"has no column {', '.join(sorted(missing))}"))
        yield file, table


def read_table(file: str, wanted: Sequence[str] | None = None) -> pa.Table:
    """The rows of one Parquet file; see `read_tables`."""
    ((_, table),) = read_tables([file], wanted)
    return table


def read_rows(file: str, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, with the `wanted` columns, read in batches.

    Raises:
        StorageError: the file cannot be read or is damaged.
    """
    with opened(file) as parquet:
        for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=list(wanted)):
            yield from batch.to_pylist()


def read_schema(file: str) -> pa.Schema:
    """The schema of a Parquet file; raises what `read_rows` raises."""
    with opened(file) as parquet:
        return parquet.schema_arrow


def conformed(file: str, table: pa.Table, fields: Iterable[pa.Field]) -> pa.Table:
    """The rows of a file with those of some columns that it has in their types.

    Raises:
        DamagedError: a column cannot be of its type, lacks values or is there twice; text is no
            UTF-8.
    """
    try:
        table.validate(full=True)
        for field in fields:
            positions = table.schema.get_all_field_indices(field.name)
            if len(positions) > 1:
                raise ValueError(f"{field.name} is there {len(positions)} times")
            for position in positions:
                column = table.column(position)
                if column.null_count and not field.nullable:
                    raise ValueError(f"{column.null_count} rows without {field.name}")
                if column.type != field.type:
                    table = table.set_column(position, field, column.cast(field.type))
    except (pa.ArrowException, ValueError) as error:
        raise DamagedError.of(file, error) from error
    return table


def _contract(file: str) -> tuple[pa.Field, ...]:
    return _CONTRACT.get(os.path.basename(os.path.dirname(file)), ())


def read_bytes(file: str) -> bytes:
    """The content of a file.

    Raises:
        MissingError: there is no such file.
        StorageError: the file cannot be read; the message names it.
    """
    try:
        return storage.read(file)
    except storage.StorageError as error:
        raise type(error)(f"{file}: {error}") from error


def write_table(
    output: str, name: str, table: pa.Table, durable: bool = True, owner: str = ""
) -> None:
    """Write a Parquet file as `name` in the output folder; see `fencing.write`."""
    buffer = BytesIO()
    pq.write_table(table, buffer)
    fencing.write(output, name, buffer.getvalue(), owner, durable)


def replace_rows(output: str, file: str, kept: pa.Table, owner: str = "") -> None:
    """Rewrite a Parquet file of `output` with the kept rows, or remove it if no row is kept.

    Raises:
        LockLostError: `owner` has lost the lock of the folder, see `fencing.check`.
        StorageError: the file cannot be written or removed.
    """
    fencing.check(output, owner)
    if len(kept):
        write_table(output, os.path.relpath(file, output), kept, owner=owner)
    else:
        storage.remove(output, os.path.relpath(file, output))


def _source(file: str) -> str | BytesIO:
    return file if storage.store_of(file).local_paths else BytesIO(read_bytes(file))
