"""Storage: listing, ranged reads and writes that are either whole or not there.

Every function takes a local path or a URL; what stands before `://` says which store has it:
`local` (none), `gcs` (`gs`), or one of Beam's file systems (`beam_files`), from which can be read
only. A path on any store is put together with `/`, as `os.path.join` does it.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from transforms.storage import beam_files, gcs, local
from transforms.storage.files import (
    AccessError,
    ChangedError,
    FoundFile,
    MissingError,
    Part,
    StorageError,
    modified_at,
)
from transforms.storage.local import UNFINISHED, WORK_FOLDER

__all__ = [
    "UNFINISHED",
    "WORK_FOLDER",
    "AccessError",
    "ChangedError",
    "FoundFile",
    "MissingError",
    "Part",
    "StorageError",
    "absolute",
    "beside",
    "find",
    "folders",
    "is_folder",
    "is_remote",
    "list_folder",
    "matching",
    "modified_at",
    "move",
    "open_file",
    "parts",
    "read",
    "remove",
    "remove_unfinished",
    "walk",
    "writable",
    "write",
    "writing",
]

SEPARATOR = "://"
GCS = "gs"


class Store(Protocol):
    """What a store can do. The functions of this package say what each one means."""

    def is_folder(self, path: str) -> bool: ...
    def parts(self, folder: str) -> Iterator[Part]: ...
    def folders(self, folder: str) -> Iterator[str]: ...
    def walk(self, part: Part, excluded: str, follow_links: bool) -> Iterator[FoundFile]: ...
    def matching(self, pattern: str) -> Iterator[FoundFile]: ...
    def find(self, path: str) -> FoundFile: ...
    def read(self, path: str, offset: int, length: int | None, version: str) -> bytes: ...
    def open_file(self, path: str) -> BinaryIO: ...
    def write(self, root: str, name: str, data: bytes) -> None: ...
    def writing(self, root: str, name: str) -> AbstractContextManager[BinaryIO]: ...
    def remove(self, path: str) -> None: ...
    def move(self, source: str, target: str) -> None: ...


def is_remote(path: str) -> bool:
    """Whether the path names a store of its own, as in `gs://bucket/name`."""
    return SEPARATOR in path


def writable(path: str) -> bool:
    """Whether results can be written there: whole files, and never over somebody else's."""
    scheme, separator, rest = path.partition(SEPARATOR)
    return not separator or (scheme == GCS and bool(rest.partition("/")[0]))


def absolute(path: str) -> str:
    """The path from the root of its store, without a `/` at its end."""
    scheme, separator, rest = path.partition(SEPARATOR)
    return scheme + separator + rest.rstrip("/") if separator else os.path.abspath(path)


def beside(path: str, file: str) -> str:
    """A path as seen from the folder of a file; absolute paths and other stores' stay as they are.

    >>> beside("../a.jpg", "gs://town/lists/list.csv")
    'gs://town/a.jpg'
    """
    if is_remote(path):
        return path
    if os.path.isabs(path):
        return os.path.normpath(path)
    scheme, separator, rest = file.rpartition(SEPARATOR)
    return scheme + separator + os.path.normpath(os.path.join(os.path.dirname(rest), path))


def is_folder(path: str) -> bool:
    """Whether there is a folder, or for an object store any object below this path."""
    return _store(path).is_folder(path)


def parts(folder: str) -> Iterator[Part]:
    """What to list apart so that all files of a folder are found, each once.

    Raises:
        StorageError: the folder cannot be listed.
    """
    return _store(folder).parts(folder)


def folders(folder: str) -> Iterator[str]:
    """The paths of the folders right in a folder, in no fixed order; raises StorageError."""
    return _store(folder).folders(folder)


def walk(part: Part, excluded: str = "", follow_links: bool = True) -> Iterator[FoundFile]:
    """Files in a part of a folder, but not below `excluded`, in a fixed order.

    Args:
        part: what to list.
        excluded: a folder that is left out.
        follow_links: whether links to folders are followed, each folder once.

    Raises:
        StorageError: the part itself cannot be listed. Folders below it that cannot be are
            yielded as `closed`.
    """
    return _store(part.folder).walk(part, excluded, follow_links)


def list_folder(folder: str, ending: str = "") -> list[FoundFile]:
    """Files right in a folder whose names have an ending, in a fixed order; no hidden ones.

    Where there is no such folder, there are none.

    Raises:
        StorageError: the folder is there but cannot be listed.
    """
    if not is_remote(folder) and not is_folder(folder):
        return []
    start = len(folder) + 1
    found = (
        file
        for file in walk(Part(folder, deep=False))
        if file.path.endswith(ending) and not file.path.startswith(".", start)
    )
    return sorted(found, key=lambda file: file.path)


def matching(pattern: str) -> Iterator[FoundFile]:
    """Files that match a glob pattern, in a fixed order.

    `**` matches any depth. Wildcards do not match hidden files of local folders.
    """
    return _store(pattern).matching(pattern)


def find(path: str) -> FoundFile:
    """The file at `path`; one that cannot be looked at has size -1 and fails when it is read.

    Raises:
        AccessError: its store cannot be used at all.
    """
    return _store(path).find(path)


def read(path: str, offset: int = 0, length: int | None = None, version: str = "") -> bytes:
    """The bytes of a file, or `length` of them from `offset`.

    Args:
        path: where it is.
        offset: the first byte.
        length: how many; None: all.
        version: of which it has to be (`FoundFile.version`); empty: of any.

    Raises:
        MissingError: there is no such file.
        StorageError: the file cannot be read, is of another version, or ends before
            `offset + length`.
    """
    return _store(path).read(path, offset, length, version)


def open_file(path: str) -> BinaryIO:
    """A file to read from and to seek in; what is skipped is not read.

    Raises:
        StorageError: the file cannot be opened; and from its methods, where it cannot be read.
    """
    return _store(path).open_file(path)


def write(root: str, name: str, data: bytes) -> None:
    """Write the file `name` below the folder `root`, whole or not at all.

    Raises:
        StorageError: the folder cannot be made or the file not be written; nothing is left of it.
    """
    _store(root).write(root, name, data)


def writing(root: str, name: str) -> AbstractContextManager[BinaryIO]:
    """The same for a file too large for memory: a context with the file to write to.

    If the context ends with an error, the file is not there, or as it was before.
    """
    return _store(root).writing(root, name)


def remove(path: str) -> None:
    """Remove a file, or a folder with all in it; raises StorageError where that is impossible."""
    _store(path).remove(path)


def move(source: str, target: str) -> None:
    """Move a file within its store; raises StorageError where that is impossible."""
    _store(source).move(source, target)


def remove_unfinished(root: str) -> int:
    """Remove what a process that was killed left unfinished below `root`; return how much it was.

    Call it while nobody else writes there. Object stores have nothing that is unfinished.

    Raises:
        StorageError: a file or folder cannot be removed.
    """
    return 0 if is_remote(root) else local.remove_unfinished(root)


def _store(path: str) -> Store:
    if not is_remote(path):
        return local
    return gcs if path.startswith(GCS + SEPARATOR) else beam_files
