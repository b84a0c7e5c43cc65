"""Compacting: merges the many small Parquet files of an output folder into a few large ones.

A new folder is built in the folder of unfinished files and then exchanged with the old one in one
system call. So a reader that lists the folder finds every row once, and a killed compaction has
either changed nothing or is complete.

All files get new names, even those that need no merging. A reader that has listed the old folder
then finds none of its files: it fails with "file not found" and never reads a part of the rows.
There is one exception: pyarrow skips listed files that no longer exist when it reads their sizes,
so for a moment between the two its data set is empty and has no columns.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from transforms import storage
from transforms.output import columns, fencing, parquet
from transforms.storage import local

PREFIX = "merged-"
"""Prefix of the new names; no work unit's id begins with it."""


@dataclass(frozen=True)
class Limits:
    """How large the new files become, and how long the old ones are kept.

    Attributes:
        rows_per_file: maximum rows in a file.
        bytes_per_file: maximum bytes in a file, assuming 8 bytes per value, so files with very many
            columns have fewer rows. Row groups are no larger.
        listing_seconds: how long the old folder stays complete, for readers that are listing it.
    """

    rows_per_file: int = 100_000
    bytes_per_file: int = 64 << 20
    listing_seconds: float = 1.0


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Source:
    """A Parquet file before compaction.

    Attributes:
        path: its path.
        rows: its number of rows.
        schema: its columns, types and metadata, serialized.
    """

    path: str
    rows: int
    schema: bytes


@dataclass(frozen=True)
class Compacted:
    """The result for a folder: the number of Parquet files before and after, and of their rows."""

    folder: str
    before: int
    after: int
    rows: int


def compact(output: str, limits: Limits = DEFAULT_LIMITS, owner: str = "") -> list[Compacted]:
    """Merge the small files of each folder of rows. No one else may write to the output folder.

    Args:
        output: the output folder, a local one.
        limits: how large the new files become.
        owner: who holds the lock of the folder, see `fencing.check`.

    Raises:
        LockLostError: it has lost the lock.
        StorageError: a file is damaged, a folder of rows holds a folder or is a link, or the file
            system cannot exchange folders. No folder has then lost or gained a row, and unless the
            exchange itself failed, nothing has changed.
    """
    storage.remove_unfinished(output)
    present = [name for name in columns.ROW_FOLDERS if os.path.isdir(os.path.join(output, name))]
    packs = {name: list(pack(find_sources(output, name), limits)) for name in present}
    merging = [name for name in present if any(len(sources) > 1 for sources in packs[name])]
    try:
        if merging:
            _try_exchange(output)
        for name in merging:
            _build(output, name, packs[name], limits)
        storage.flush(output)
        for name in merging:
            fencing.check(output, owner)
            local.exchange(_unfinished(output, name), os.path.join(output, name))
        storage.flush(output)  # No old file may be removed before the new ones are in place.
        if merging:
            time.sleep(limits.listing_seconds)
    except OSError as error:
        raise storage.StorageError(f"{output}: cannot be compacted: {error}") from error
    finally:
        storage.remove_unfinished(output)
    return [
        Compacted(
            name,
            before=sum(map(len, packs[name])),
            after=len(packs[name]),
            rows=sum(source.rows for sources in packs[name] for source in sources),
        )
        for name in present
    ]


def find_sources(output: str, folder: str) -> Iterator[Source]:
    """The Parquet files in a folder of the output, in a fixed order.

    Raises:
        StorageError: one is damaged.
    """
    schemas: dict[bytes, bytes] = {}
    for path in parquet.files_in(output, folder):
        with parquet.opened(path) as file:
            schema, count = file.schema_arrow.serialize().to_pybytes(), file.metadata.num_rows
        # Equal schemas share one object, as there may be 100,000 files.
        yield Source(path, count, schemas.setdefault(schema, schema))


def pack(
    sources: Iterable[Source], limits: Limits = DEFAULT_LIMITS
) -> Iterator[tuple[Source, ...]]:
    """Group sources into new files; a large source, or the only one of its schema, stays alone.

    All packed files are large, except for at most one per schema, so packing again merges nothing.
    """
    alike: dict[bytes, list[Source]] = {}
    for source in sources:
        alike.setdefault(source.schema, []).append(source)
    for schema, group in alike.items():
        bytes_per_row = 8 * max(1, len(_schema(schema)))
        most = min(limits.rows_per_file, limits.bytes_per_file // bytes_per_row)
        packed: list[Source] = []
        count = 0
        for source in group:
            if source.rows * 2 >= most:
                yield (source,)
                continue
            if count + source.rows > most:
                yield tuple(packed)
                packed, count = [], 0
            packed.append(source)
            count += source.rows
        if packed:
            yield tuple(packed)


def _try_exchange(output: str) -> None:
    """Raise StorageError, before any work, if folders cannot be exchanged."""
    trial = [_unfinished(output, f"trial-{number}") for number in range(2)]
    for folder in trial:
        os.makedirs(folder)
    local.exchange(*trial)


def _build(output: str, folder: str, packs: Iterable[Sequence[Source]], limits: Limits) -> None:
    """Build the new folder in the folder of unfinished files."""
    old, new = os.path.join(output, folder), _unfinished(output, folder)
    if os.path.islink(old):
        raise storage.StorageError(f"{old}: a link; only a folder can be exchanged for another")
    os.makedirs(new)
    taken: set[str] = set()
    for sources in packs:
        path = os.path.join(new, _new_name(sources))
        if len(sources) > 1:
            _merge(sources, path, limits)
        else:
            os.link(sources[0].path, path, follow_symlinks=False)
        taken.update(source.path for source in sources)
    for entry in os.scandir(old):
        if entry.is_dir():
            raise storage.StorageError(f"{entry.path}: a folder among the rows; move it away")
        if entry.path not in taken:
            os.link(entry.path, os.path.join(new, entry.name), follow_symlinks=False)
    shutil.copystat(old, new)


def _new_name(sources: Iterable[Source]) -> str:
    """The name of the merged file, made from the names and contents of its sources."""
    digest = hashlib.sha256()
    for source in sources:
        content = parquet.read_bytes(source.path)
        digest.update(os.fsencode(os.path.basename(source.path)) + b"\0")
        digest.update(hashlib.sha256(content).digest())
    return f"{PREFIX}{digest.hexdigest()[:20]}.parquet"


def _merge(sources: Sequence[Source], path: str, limits: Limits) -> None:
    """Write the rows of sources with the same schema to one file, in the order of the sources."""
    with pq.ParquetWriter(path, _schema(sources[0].schema)) as writer:
        waiting: list[pa.Table] = []
        size = 0
        for source in sources:
            with parquet.opened(source.path) as file:
                waiting.append(file.read())
            size += waiting[-1].nbytes
            if size >= limits.bytes_per_file:
                writer.write_table(pa.concat_tables(waiting))
                waiting, size = [], 0
        if waiting:
            writer.write_table(pa.concat_tables(waiting))


def _unfinished(output: str, name: str) -> str:
    return os.path.join(output, storage.UNFINISHED, name)


def _schema(serialized: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(serialized))
