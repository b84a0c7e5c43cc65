"""Other stores through Beam's file systems (`s3://`, `hdfs://`, ...), to read from.

Beam's file systems do not guard against two writers of one file, so results are not written there.
"""

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from transforms.storage.files import (
    FoundFile,
    NoStoreError,
    Part,
    StorageError,
    changed,
    cut_short,
)
from transforms.storage.store import Store


class BeamStore(Store):
    """Any store that Beam has a file system for, to read from."""

    def is_folder(self, path: str) -> bool:
        """See `storage.is_folder`."""
        return bool(_match(os.path.join(glob.escape(path), "**"), limit=1))

    def walk(self, part: Part, excluded: str, follow_links: bool) -> Iterator[FoundFile]:
        """See `storage.walk`. No results are in such a store, so nothing is excluded."""
        return iter(_match(os.path.join(glob.escape(part.folder), "**" if part.deep else "*")))

    def matching(self, pattern: str) -> Iterator[FoundFile]:
        """See `storage.matching`, by Beam's rules for patterns."""
        return iter(_match(pattern))

    def find(self, path: str) -> FoundFile:
        """See `storage.find`."""
        with _explained(path):
            store = FileSystems.get_filesystem(path)
            return _found(store.metadata(path)) if store.exists(path) else FoundFile(path, -1, 0)

    def read(self, path: str, offset: int, length: int | None, version: str) -> bytes:
        """See `storage.read`. The version is compared before the file is read."""
        if version and (found := self.find(path).version) != version:
            raise changed(version, found)
        with self.open_file(path) as file, _explained("cannot be read"):
            file.seek(offset)
            data = file.read() if length is None else file.read(length)
        if length is not None and len(data) < length:
            raise cut_short(offset, length, len(data))
        return data

    def open_file(self, path: str) -> BinaryIO:
        """See `storage.open_file`."""
        with _explained("cannot be read"):
            opened = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
            return cast(BinaryIO, opened)


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
        raise NoStoreError(f"{what}: {str(error).splitlines()[0]}") from error
    except (BeamIOError, OSError) as error:
        raise StorageError(f"{what}: {str(error).splitlines()[0]}") from error
