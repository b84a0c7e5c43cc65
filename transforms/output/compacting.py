"""Compacting: the many small Parquet files of an output folder become few large ones.

The folder is built anew among the unfinished files and then changes places with the old one in one
system call. So whoever lists the folder finds every row once, and a compaction that is killed has
changed nothing or is done.

All files get new names, also those that need no merging. A reader that has listed the old folder
then finds none of its files: it fails loudly ("file not found") and never reads a part. One reader
may find nothing instead: pyarrow passes over listed files that are gone when it looks at their
sizes, so in the instant between the two its data set is empty and without columns.
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
from transforms.output import columns, parquet
from transforms.storage import local

FOLDERS = (columns.STATISTICS, columns.FAILURES, columns.GATED)
PREFIX = "merged-"
"""Of the new names; no work unit's id begins with it."""

ROWS_PER_FILE = 100_000
BYTES_PER_FILE = 64 << 20
"""At 8 bytes a value: files of very many columns have fewer rows. Row groups are no larger."""

LISTING_SECONDS = 1.0
"""So long the old folder stays whole for readers that are just listing it."""


@dataclass(frozen=True)
class Source:
    """A Parquet file as it is before.

    Attributes:
        path: where it is.
        rows: how many it holds.
        schema: its columns, types and metadata, serialized.
    """

    path: str
    rows: int
    schema: bytes


@dataclass(frozen=True)
class Compacted:
    """What became of a folder: Parquet files before and after, and the rows they hold."""

    folder: str
    before: int
    after: int
    rows: int


def compact(output: str) -> list[Compacted]:
    """Merge the small files of each folder of rows; call it while nobody else writes there.

    Raises:
        StorageError: a file is damaged, the folder holds what has no place there, or the file
            system cannot exchange folders. Then no folder has lost or gained a row, and unless the
            very exchange failed, none has changed at all.
    """
    storage.remove_unfinished(output)
    present = [name for name in FOLDERS if os.path.isdir(os.path.join(output, name))]
    packs = {name: list(pack(find_sources(output, name))) for name in present}
    merging = [name for name in present if any(len(sources) > 1 for sources in packs[name])]
    try:
        if merging:
            _try_exchange(output)
        for name in merging:
            _build(output, name, packs[name])
        for name in merging:
            _exchange(output, name)
        if merging:
            time.sleep(LISTING_SECONDS)
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
        # One object for all that are alike: there may be a hundred thousand files.
        yield Source(path, count, schemas.setdefault(schema, schema))


def pack(sources: Iterable[Source]) -> Iterator[tuple[Source, ...]]:
    """Which sources make up each new file; one that is large, or has no other like it, is alone.

    Sources of different schemas stay apart. What has been packed is large, but for at most one file
    of each schema, so packing again merges nothing.
    """
    alike: dict[bytes, list[Source]] = {}
    for source in sources:
        alike.setdefault(source.schema, []).append(source)
    for schema, group in alike.items():
        most = min(ROWS_PER_FILE, BYTES_PER_FILE // (8 * max(1, len(_schema(schema)))))
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
    """Raise StorageError, before any work, where folders cannot be exchanged."""
    trial = [_unfinished(output, f"trial-{number}") for number in range(2)]
    for folder in trial:
        os.makedirs(folder)
    local.exchange(*trial)


def _build(output: str, folder: str, packs: Iterable[Sequence[Source]]) -> None:
    """Make the new folder among the unfinished files."""
    old, new = os.path.join(output, folder), _unfinished(output, folder)
    if os.path.islink(old):
        raise storage.StorageError(f"{old}: a link; only a folder can be exchanged for another")
    os.makedirs(new)
    taken: set[str] = set()
    for sources in packs:
        path = os.path.join(new, _new_name(sources))
        if len(sources) > 1:
            _merge(sources, path)
        else:
            os.link(sources[0].path, path, follow_symlinks=False)
        taken.update(source.path for source in sources)
    for entry in os.scandir(old):
        if entry.is_dir():
            raise storage.StorageError(f"{entry.path}: a folder among the rows; move it away")
        if entry.path not in taken:
            os.link(entry.path, os.path.join(new, entry.name), follow_symlinks=False)
    shutil.copystat(old, new)
    local.sync(new)


def _new_name(sources: Iterable[Source]) -> str:
    """A name for what becomes of sources, made from their names and contents."""
    digest = hashlib.sha256()
    for source in sources:
        content = parquet.read_bytes(source.path)
        digest.update(os.fsencode(os.path.basename(source.path)) + b"\0")
        digest.update(hashlib.sha256(content).digest())
    return f"{PREFIX}{digest.hexdigest()[:20]}.parquet"


def _merge(sources: Sequence[Source], path: str) -> None:
    """Write the rows of sources of one schema to one file, in the order of the sources."""
    with pq.ParquetWriter(path, _schema(sources[0].schema)) as writer:
        waiting: list[pa.Table] = []
        size = 0
        for source in sources:
            with parquet.opened(source.path) as file:
                waiting.append(file.read())
            size += waiting[-1].nbytes
            if size >= BYTES_PER_FILE:
                writer.write_table(pa.concat_tables(waiting))
                waiting, size = [], 0
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
    local.sync(path)


def _exchange(output: str, folder: str) -> None:
    local.exchange(_unfinished(output, folder), os.path.join(output, folder))
    # The exchange must be safe before the old files go.
    local.sync(output)
    local.sync(os.path.join(output, storage.UNFINISHED))


def _unfinished(output: str, name: str) -> str:
    return os.path.join(output, storage.UNFINISHED, name)


def _schema(serialized: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(serialized))
