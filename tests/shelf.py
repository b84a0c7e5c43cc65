"""A file system of Beam's with a scheme of its own: `shelf://` stands for a local folder."""

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem

PREFIX = "shelf://"


class ShelfFileSystem(LocalFileSystem):
    """Beam finds it by its scheme, as it finds those of S3 and HDFS.

    Attributes:
        folder: the local folder.
    """

    folder = ""

    @classmethod
    def scheme(cls) -> str:
        return PREFIX.removesuffix("://")

    def exists(self, path: str) -> bool:
        return super().exists(self._local(path))

    def metadata(self, path: str) -> FileMetadata:
        return self._shelved(super().metadata(self._local(path)))

    def open(self, path: str, *arguments: Any, **options: Any) -> BinaryIO:
        return super().open(self._local(path), *arguments, **options)

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        yield from map(self._shelved, super()._list(self._local(dir_or_prefix)))

    def _local(self, path: str) -> str:
        return os.path.join(self.folder, path.removeprefix(PREFIX))

    def _shelved(self, found: FileMetadata) -> FileMetadata:
        path = PREFIX + os.path.relpath(found.path, self.folder)
        return FileMetadata(path, found.size_in_bytes, found.last_updated_in_seconds)
