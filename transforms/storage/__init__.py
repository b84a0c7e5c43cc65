"""Storage: listing, ranged reads and atomic writes.

It imports no other room.

Every function takes a local path or a URL; the scheme, which is what stands before `://`, says
which store has it: no scheme a local folder (`local`), `gs` Google Cloud Storage (`gcs`), and any
other one of Beam's file systems (`beam_files`), which are read only. `register` adds a store.

Paths in all stores are joined with `/`, as `os.path.join` does it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

from transforms.storage.beam_files import BeamStore
from transforms.storage.files import (
    UNSEEN,
    AccessError,
    ChangedError,
    FileError,
    FoundFile,
    MissingError,
    NoStoreError,
    Part,
    StorageError,
    modified_at,
)
from transforms.storage.gcs import GcsStore
from transforms.storage.local import UNFINISHED, WORK_FOLDER, LocalStore
from transforms.storage.locks import LockFile
from transforms.storage.store import SEPARATOR, Store
from transforms.storage.uris import path_of

__all__ = [
    "SEPARATOR",
    "UNFINISHED",
    "UNSEEN",
    "WORK_FOLDER",
    "AccessError",
    "ChangedError",
    "FileError",
    "FoundFile",
    "MissingError",
    "NoStoreError",
    "Part",
    "StorageError",
    "Store",
    "absolute",
    "beside",
    "check_folder",
    "check_writable",
    "exists",
    "find",
    "flush",
    "folders",
    "identity",
    "is_below",
    "is_folder",
    "is_missing",
    "kept_folder",
    "list_folder",
    "lock_file",
    "matching",
    "modified_at",
    "move",
    "open_file",
    "parts",
    "path_of",
    "read",
    "register",
    "remove",
    "remove_unfinished",
    "store_of",
    "walk",
    "write",
    "writing",
]

NO_SCHEME = ""
"""The scheme of local paths."""

_stores: dict[str, Store] = {}
_others = BeamStore()


def register(scheme: str, store: Store) -> None:
    """Use a store for all paths that begin with `scheme://`."""
    _stores[scheme] = store


register(NO_SCHEME, LocalStore())
register("gs", GcsStore())


def store_of(path: str) -> Store:
    """The store that has a path: what it can do, and how it behaves."""
    scheme, separator, _ = path.partition(SEPARATOR)
    return _stores.get(scheme, _others) if separator else _stores[NO_SCHEME]


def check_writable(path: str) -> None:
    """Check that results can be written below a path.

    Raises:
        StorageError: they cannot; the message says where they can be.
    """
    if not store_of(path).writable(path):
        forms = [store.output_form for store in _stores.values() if store.output_form]
        raise StorageError(f"{path}: OUT is {' or '.join(forms)}")


def absolute(path: str) -> str:
    """The path from the root of its store, without a trailing `/`."""
    return store_of(path).absolute(path)


def beside(path: str, file: str) -> str:
    """A path as seen from the folder of a file; absolute paths and other stores' stay as they are.

    >>> beside("../a.jpg", "gs://town/lists/list.csv")
    'gs://town/a.jpg'
    """
    if SEPARATOR in path:
        return path
    if os.path.isabs(path):
        return os.path.normpath(path)
    scheme, separator, rest = file.rpartition(SEPARATOR)
    return scheme + separator + os.path.normpath(os.path.join(os.path.dirname(rest), path))


def is_below(path: str, folder: str) -> bool:
    """Whether a file is somewhere below a folder, by whatever links it is reached."""
    return store_of(path).is_below(path, folder)


def is_folder(path: str) -> bool:
    """Whether there is a folder; in an object store, any object below this path."""
    return store_of(path).is_folder(path)


def parts(folder: str) -> Iterator[Part]:
    """Parts of a folder that can be listed side by side; each file is in exactly one of them.

    Raises:
        StorageError: the folder cannot be listed.
    """
    return store_of(folder).parts(folder)


def folders(folder: str) -> Iterator[str]:
    """The paths of the folders directly in a folder, in no fixed order; raises StorageError."""
    return store_of(folder).folders(folder)


def walk(part: Part, excluded: str = "", follow_links: bool = True) -> Iterator[FoundFile]:
    """Files in a part of a folder, in a fixed order.

    Args:
        part: what to list.
        excluded: a folder that is left out.
        follow_links: whether links to folders are followed, each folder once; if not, a part that
            is a link itself is empty.

    Raises:
        StorageError: the part itself cannot be listed. Folders below it that cannot be are
            yielded as `closed`.
    """
    return store_of(part.folder).walk(part, excluded, follow_links)


def list_folder(folder: str, ending: str = "") -> list[FoundFile]:
    """Files directly in a folder whose names have an ending, in a fixed order; no hidden ones.

    Without such a folder, there are none.

    Raises:
        StorageError: the folder is there but cannot be listed.
    """
    start = len(folder) + 1
    found = (
        file
        for file in store_of(folder).files(folder)
        if file.path.endswith(ending) and not file.path.startswith(".", start)
    )
    return sorted(found, key=lambda file: file.path)


def matching(pattern: str) -> Iterator[FoundFile]:
    """Files that match a glob pattern, in a fixed order.

    `**` matches any depth. Wildcards do not match hidden files of local folders.
    """
    return store_of(pattern).matching(pattern)


def find(path: str) -> FoundFile:
    """The file at `path`; a missing or inaccessible one has size -1 and fails when it is read.

    Raises:
        AccessError: its store cannot be used at all.
    """
    return store_of(path).find(path)


def exists(path: str) -> bool:
    """Whether there is a file or, in a local folder, a folder at `path`; raises as `find` does."""
    return find(path).size >= 0


def is_missing(path: str) -> bool:
    """Whether there certainly is nothing at `path`: its store can be asked, and says so.

    Raises:
        StorageError: a remote store gives no answer.
    """
    return store_of(path).is_missing(path)


def read(path: str, offset: int = 0, length: int | None = None, version: str = "") -> bytes:
    """The bytes of a file, or `length` of them from `offset`.

    Args:
        path: where it is.
        offset: the first byte.
        length: how many; None: all.
        version: the version that it must have (`FoundFile.version`); empty: any.

    Raises:
        MissingError: there is no such file.
        StorageError: the file cannot be read, is of another version, or ends before
            `offset + length`.
    """
    return store_of(path).read(path, offset, length, version)


def open_file(path: str) -> BinaryIO:
    """A file to read from and to seek in; what is skipped is not read.

    Raises:
        StorageError: the file cannot be opened; and from its methods, where it cannot be read.
    """
    return store_of(path).open_file(path)


def write(
    root: str,
    name: str,
    data: bytes,
    durable: bool = False,
    check: Callable[[], None] | None = None,
) -> None:
    """Write the file `name` below the folder `root`, whole or not at all.

    Args:
        root: the folder.
        name: the file below it; missing folders are made.
        data: the bytes of the file.
        durable: whether the file survives a power cut once this returns, and a power cut before
            leaves the old file or the new one. Else a power cut may leave an empty or a damaged
            file, unless `flush` has returned before. What object stores have is always durable.
        check: called before a file is replaced, as late as the store can; a store that knows
            generations then replaces the one that it found before the call. Where requests cost,
            it is not called for a new file. If it raises an error, nothing has changed.

    Raises:
        StorageError: the folder cannot be made or the file cannot be written, or a link below
            `root` leads to it; nothing is left of it.
    """
    if check:
        store_of(root).write_checked(root, name, data, durable, check)
    else:
        store_of(root).write(root, name, data, durable)


def writing(root: str, name: str, durable: bool = False) -> AbstractContextManager[BinaryIO]:
    """The same for a file too large for memory: a context with a file to write to.

    If the context ends with an error, nothing has changed.
    """
    return store_of(root).writing(root, name, durable)


def flush(root: str) -> None:
    """Make everything durable that was written, moved or removed below the folder `root` so far.

    Raises:
        StorageError: the disk does not take it.
    """
    store_of(root).flush(root)


def remove(root: str, name: str) -> None:
    """Remove the file `name` below the folder `root`, or a folder with all in it.

    Links below `root` are removed, not followed.

    Raises:
        StorageError: it cannot be removed, or a link leads to it.
    """
    store_of(root).remove(root, name)


def move(root: str, name: str, target: str) -> None:
    """Move a file or, in a local folder, a folder from one name below `root` to another.

    Raises:
        StorageError: it cannot be moved, or a link leads to it or to its new place.
    """
    store_of(root).move(root, name, target)


def kept_folder(root: str, name: str) -> AbstractContextManager[str]:
    """As a context, the `identity` of the folder `name` below `root`, which is made if missing.

    While it is open, no other folder gets this identity.

    Raises:
        StorageError: the folder cannot be made, or a link leads to it.
    """
    return store_of(root).kept_folder(root, name)


def identity(path: str) -> str:
    """What tells a file or folder from every other one, also from one that replaces it.

    Empty where there is none, and in stores that do not know.
    """
    return store_of(path).identity(path)


def check_folder(root: str, name: str) -> None:
    """Check that what is written to the folder `name` below `root` stays below `root`.

    Raises:
        StorageError: a link leads elsewhere.
    """
    store_of(root).check_folder(root, name)


def lock_file(root: str, name: str) -> LockFile:
    """The lock file `name` below the folder `root`; raises StorageError for a read-only store."""
    return store_of(root).lock_file(root, name)


def remove_unfinished(root: str) -> int:
    """Remove unfinished files of killed processes below `root`; return how many there were.

    Call it while nobody else writes there. Object stores have no unfinished files.

    Raises:
        StorageError: a file or folder cannot be removed.
    """
    return store_of(root).remove_unfinished(root)
