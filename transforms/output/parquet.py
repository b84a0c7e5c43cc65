"""Parquet: the one place where the Parquet files of an output folder are listed, read and written.

An error in reading a file names it and says what to do, whatever pyarrow raises on damaged files.
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

FILES_PER_BLOCK = 16
"""Files that one worker reads at a time."""

ROWS_AT_ONCE = 512
"""Rows of a file that `read_rows` holds at a time."""


class DamagedError(storage.StorageError):
    """A Parquet file is damaged.

    Attributes:
        reason: what is wrong, in one line that does not name the file.
    """

    reason = ""

    @classmethod
    def of(cls, file: str, error: Exception) -> "DamagedError":
        """What reading a file of an output folder raised, as an error that names the file."""
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
    """The same, some files at a time: remote ones are fetched side by side."""
    files = files_in(output, folder)
    for start in range(0, len(files), FILES_PER_BLOCK):
        yield tuple(files[start : start + FILES_PER_BLOCK])


@contextmanager
def opened(file: str, content: BytesIO | None = None) -> Iterator[pq.ParquetFile]:
    """A Parquet file to read from; as a context it also converts errors of reading.

    Args:
        file: its path.
        content: its bytes, if they are at hand.

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
    files: Iterable[str], wanted: Sequence[str] | None = None, only_with: Sequence[str] = ()
) -> Iterator[tuple[str, pa.Table]]:
    """Parquet files and their rows, whole or the `wanted` columns.

    Args:
        files: their paths; remote ones are fetched side by side.
        wanted: columns; None: all.
        only_with: columns without which a file is passed over.

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
            table = parquet.read(wanted) if present.issuperset(only_with) else None
        if table is None:
            continue
        if missing := set(wanted or ()) - present:
            raise storage.StorageError(f"{file}: has no column {', '.join(sorted(missing))}")
        yield file, table


def read_table(file: str, wanted: Sequence[str] | None = None) -> pa.Table:
    """The rows of one Parquet file; see `read_tables`."""
    ((_, table),) = read_tables([file], wanted)
    return table


def read_rows(file: str, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, with some of their columns, without holding all of them.

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


def write_table(output: str, name: str, table: pa.Table) -> None:
    """Write a Parquet file as `name` below the output folder; raises StorageError."""
    buffer = BytesIO()
    pq.write_table(table, buffer)
    storage.write(output, name, buffer.getvalue())


def replace_rows(output: str, file: str, kept: pa.Table) -> None:
    """Write a Parquet file of `output` anew with the rows that are kept, or remove it if none is.

    Raises:
        StorageError: the file cannot be written or removed.
    """
    if len(kept):
        write_table(output, os.path.relpath(file, output), kept)
    else:
        storage.remove(file)


def _source(file: str) -> str | BytesIO:
    return file if storage.store_of(file).local_paths else BytesIO(read_bytes(file))
