"""Further stores through Beam's file systems (`s3://`, `hdfs://`, ...), to read from.

They keep no promise about two writers of one file, so results do not go there.
"""

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NoReturn, cast

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from transforms.storage.files import (
    AccessError,
    FoundFile,
    Part,
    StorageError,
    changed,
    cut_short,
)


def is_folder(path: str) -> bool:
    """See `storage.is_folder`."""
    return bool(_match(os.path.join(glob.escape(path), "**"), limit=1))


def parts(folder: str) -> Iterator[Part]:
    """See `storage.parts`: Beam lists a folder as a whole."""
    yield Part(folder)


def folders(folder: str) -> Iterator[str]:
    """Refuse: only results are looked at folder by folder."""
    _refuse(folder)


def walk(part: Part, excluded: str, follow_links: bool) -> Iterator[FoundFile]:
    """See `storage.walk`. Results do not stand in such a store, so nothing is excluded."""
    return iter(_match(os.path.join(glob.escape(part.folder), "**" if part.deep else "*")))


def matching(pattern: str) -> Iterator[FoundFile]:
    """See `storage.matching`, by Beam's rules for patterns."""
    return iter(_match(pattern))


def find(path: str) -> FoundFile:
    """See `storage.find`."""
    with _explained(path):
        store = FileSystems.get_filesystem(path)
        return _found(store.metadata(path)) if store.exists(path) else FoundFile(path, -1, 0)


def read(path: str, offset: int, length: int | None, version: str) -> bytes:
    """See `storage.read`. Whether the file has changed is asked before it is read."""
    if version and (found := find(path).version) != version:
        raise changed(version, found)
    with open_file(path) as file, _explained("cannot be read"):
        file.seek(offset)
        data = file.read() if length is None else file.read(length)
    if length is not None and len(data) < length:
        raise cut_short(offset, length, len(data))
    return data


def open_file(path: str) -> BinaryIO:
    """See `storage.open_file`."""
    with _explained("cannot be read"):
        opened = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
        return cast(BinaryIO, opened)


def write(root: str, name: str, data: bytes) -> None:
    """Refuse: results go to local folders and to `gs://`."""
    _refuse(root)


def writing(root: str, name: str) -> NoReturn:
    """Refuse, as `write` does."""
    _refuse(root)


def remove(path: str) -> None:
    """Refuse, as `write` does."""
    _refuse(path)


def move(source: str, target: str) -> None:
    """Refuse, as `write` does."""
    _refuse(source)


def _refuse(path: str) -> NoReturn:
    raise StorageError(f"{path}: results are written to local folders and to gs:// only")


def _match(pattern: str, limit: int | None = None) -> list[FoundFile]:
    with _explained(pattern):
        (found,) = FileSystems.match([pattern], [limit])
    return sorted(map(_found, found.metadata_list), key=lambda file: file.path)


def _found(file: FileMetadata) -> FoundFile:
    return FoundFile(file.path, file.size_in_bytes, round(file.last_updated_in_seconds * 1e9))


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # No file system for this scheme, or not what it needs.
        raise AccessError(f"{what}: {str(error).splitlines()[0]}") from error
    except (BeamIOError, OSError) as error:
        raise StorageError(f"{what}: {str(error).splitlines()[0]}") from error
