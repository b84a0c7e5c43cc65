"""Local files. A file is written under a temporary name and renamed, so it is always whole."""

import ctypes
import glob
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BufferedReader, FileIO
from typing import BinaryIO

from transforms.storage.files import (
    FoundFile,
    MissingError,
    Part,
    StorageError,
    changed,
    cut_short,
)
from transforms.storage.locks import Flock, LockFile
from transforms.storage.store import Store

WORK_FOLDER = ".citymask"
UNFINISHED = f"{WORK_FOLDER}/unfinished"
"""Folder of files that are being written; readers ignore it."""

AT_FDCWD = -100
RENAME_EXCHANGE = 2
"""Arguments of renameat2(2): paths are relative to the working folder; exchange both paths."""


class LocalStore(Store):
    """The file system of this machine."""

    output_form = "a local folder"
    local_paths = True
    shared = False
    costs_requests = False
    renames_folders = True

    def folds_case(self, root: str, present: str) -> bool:
        """See `Store.folds_case`."""
        return os.path.exists(os.path.join(root, present.upper()))

    def absolute(self, path: str) -> str:
        """See `storage.absolute`."""
        return os.path.abspath(path)

    def is_below(self, path: str, folder: str) -> bool:
        """See `storage.is_below`; links are followed."""
        parent = os.path.realpath(os.path.dirname(path))
        return (parent + os.sep).startswith(os.path.realpath(folder) + os.sep)

    def is_folder(self, path: str) -> bool:
        """See `storage.is_folder`."""
        return os.path.isdir(path)

    def folders(self, folder: str) -> Iterator[str]:
        """See `storage.folders`; links to folders are among them."""
        with _explained(f"{folder}: cannot be listed"), os.scandir(folder) as entries:
            yield from (entry.path for entry in entries if entry.is_dir())

    def walk(self, part: Part, excluded: str, follow_links: bool) -> Iterator[FoundFile]:
        """See `storage.walk`."""
        visited = {os.path.realpath(excluded)} if excluded else set()
        unlisted: list[str] = []
        walked = os.walk(
            part.folder,
            followlinks=follow_links,
            onerror=lambda error: unlisted.append(str(error.filename)),
        )
        for folder, names, files in walked:
            identity = os.path.realpath(folder)
            if identity in visited:
                names.clear()
                continue
            visited.add(identity)
            names.sort()
            for name in sorted(files):
                yield self.find(os.path.join(folder, name))
            if not part.deep:
                break
        for folder in unlisted:
            if folder == part.folder:
                raise StorageError(f"{folder}: cannot be listed; check its permissions")
            yield replace(self.find(folder), closed=True)

    def files(self, folder: str) -> Iterator[FoundFile]:
        """See `Store.files`."""
        return super().files(folder) if self.is_folder(folder) else iter(())

    def matching(self, pattern: str) -> Iterator[FoundFile]:
        """See `storage.matching`."""
        for path in sorted(glob.glob(pattern, recursive=True)):
            if os.path.isfile(path):
                yield self.find(path)

    def find(self, path: str) -> FoundFile:
        """See `storage.find`."""
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # ValueError: a NUL in the path.
            return FoundFile(path, -1, 0)
        return FoundFile(path, status.st_size, status.st_mtime_ns)

    def read(self, path: str, offset: int, length: int | None, version: str) -> bytes:
        """See `storage.read`."""
        with _opened(path) as file, _explained("cannot be read"):
            data = file.readall() if length is None else _read_part(file, offset, length)
            # After reading, and of the open file, so that no change goes unnoticed.
            status = os.fstat(file.fileno())
        found = FoundFile(path, status.st_size, status.st_mtime_ns).version
        if version and found != version:
            raise changed(version, found)
        if length is not None and len(data) < length:
            raise cut_short(offset, length, len(data))
        return data

    def open_file(self, path: str) -> BinaryIO:
        """See `storage.open_file`."""
        return BufferedReader(_opened(path))

    def write(self, root: str, name: str, data: bytes) -> None:
        """See `storage.write`."""
        with self.writing(root, name) as file:
            file.write(data)

    @contextmanager
    def writing(self, root: str, name: str) -> Iterator[BinaryIO]:
        """See `storage.writing`.

        The file is written below `root`'s folder of unfinished files and then moved into place.
        """
        path = os.path.join(root, name)
        unfinished = os.path.join(root, UNFINISHED, uuid.uuid4().hex)
        try:
            with _explained(f"{path}: cannot be written"):
                for needed in (path, unfinished):
                    os.makedirs(os.path.dirname(needed), exist_ok=True)
                with open(unfinished, "xb") as file:
                    yield file
                os.replace(unfinished, path)
        except BaseException:
            with suppress(OSError):  # The next run cleans up.
                os.unlink(unfinished)
            raise

    def remove(self, path: str) -> None:
        """See `storage.remove`."""
        with _explained(f"{path}: cannot be removed"):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def move(self, source: str, target: str) -> None:
        """See `storage.move`."""
        with _explained(f"{source}: cannot be moved to {target}"):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.replace(source, target)

    def lock_file(self, root: str, name: str) -> LockFile:
        """See `storage.lock_file`."""
        return Flock(root, name)

    def remove_unfinished(self, root: str) -> int:
        """See `storage.remove_unfinished`."""
        leftovers = glob.glob(os.path.join(glob.escape(root), UNFINISHED, "*"))
        for path in leftovers:
            self.remove(path)
        return len(leftovers)


def exchange(first: str, second: str) -> None:
    """Exchange two folders of one file system in one step, so that neither is ever missing.

    Raises:
        StorageError: the system or the file system does not support it; nothing has changed.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise StorageError(f"{second}: this system cannot exchange two folders in one step")
    paths = (AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second))
    if rename(*paths, RENAME_EXCHANGE) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise StorageError(f"{second}: this file system cannot exchange two folders: {reason}")


def sync(path: str) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _opened(path: str) -> FileIO:
    """The file, unbuffered; raises StorageError if it is no file or cannot be opened."""
    with _explained("cannot be read"):
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # Opening a pipe would block.
            raise StorageError("cannot be read: neither a file nor a link to one")
        return open(path, "rb", buffering=0)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the system's errors into a StorageError that begins with `what`."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path.
        kind = MissingError if isinstance(error, FileNotFoundError) else StorageError
        raise kind(f"{what}: {getattr(error, 'strerror', None) or error}") from error


def _read_part(file: FileIO, offset: int, length: int) -> bytes:
    """Up to `length` bytes from `offset`, fewer only at the end of the file."""
    file.seek(offset)
    data = bytearray()
    while len(data) < length and (part := file.read(length - len(data))):
        data += part
    return bytes(data)
