"""Files: listing, ranged reads and writes that are either whole or not there."""

import ctypes
import glob
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from io import FileIO

WORK_FOLDER = ".citymask"
UNFINISHED = f"{WORK_FOLDER}/unfinished"
"""Folder of what is being written; no reader takes it for results."""

AT_FDCWD = -100
RENAME_EXCHANGE = 2
"""Of renameat2(2): paths are relative to the working folder; both change places."""


class StorageError(Exception):
    """A file could not be listed, read or written; the message names it and says why."""


@dataclass(frozen=True)
class FoundFile:
    """A file as listed: its path and what its version is made of.

    Attributes:
        path: where it is.
        size: bytes.
        modified_ns: time of the last change, Unix nanoseconds.
        closed: whether it is a folder that could not be listed.
    """

    path: str
    size: int
    modified_ns: int
    closed: bool = False

    @property
    def version(self) -> str:
        """Changes when the file is written anew."""
        return f"{self.size}-{self.modified_ns}"


def modified_at(version: str) -> datetime:
    """When a file of this version was last changed, UTC."""
    nanoseconds = int(version.rpartition("-")[2])
    return datetime.fromtimestamp(nanoseconds / 1e9, timezone.utc)


def is_remote(path: str) -> bool:
    """Whether the path names an object store, as in `gs://bucket/name`."""
    return "://" in path


def walk(directory: str, excluded: str) -> Iterator[FoundFile]:
    """Files below `directory` but not below `excluded`, in a fixed order.

    Links to folders are followed, each folder once.

    Raises:
        StorageError: `directory` itself cannot be listed. Folders below it that cannot be are
            yielded as `closed`.
    """
    visited = {os.path.realpath(excluded)} if excluded else set()
    unlisted: list[str] = []
    for folder, names, files in os.walk(
        directory, followlinks=True, onerror=lambda error: unlisted.append(str(error.filename))
    ):
        identity = os.path.realpath(folder)
        if identity in visited:
            names.clear()
            continue
        visited.add(identity)
        names.sort()
        for name in sorted(files):
            yield find(os.path.join(folder, name))
    for folder in unlisted:
        if folder == directory:
            raise StorageError(f"{folder}: cannot be listed; check its permissions")
        yield replace(find(folder), closed=True)


def matching(pattern: str) -> Iterator[FoundFile]:
    """Files that match a glob pattern, in a fixed order.

    `**` matches any depth; wildcards do not match hidden files.
    """
    for path in sorted(glob.glob(pattern, recursive=True)):
        if os.path.isfile(path):
            yield find(path)


def find(path: str) -> FoundFile:
    """The file at `path`; one that cannot be looked at has size -1 and fails when it is read."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the path.
        return FoundFile(path, -1, 0)
    return FoundFile(path, status.st_size, status.st_mtime_ns)


def read(path: str, offset: int = 0, length: int | None = None, version: str = "") -> bytes:
    """The bytes of a file, or `length` of them from `offset`.

    Args:
        path: where it is.
        offset: the first byte.
        length: how many; None: all.
        version: of which it has to be (`FoundFile.version`); empty: of any.

    Raises:
        StorageError: the file cannot be read, is of another version, or ends before
            `offset + length`.
    """
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # Opening a pipe waits for ever.
            raise StorageError("cannot be read: neither a file nor a link to one")
        with open(path, "rb", buffering=0) as file:
            data = file.readall() if length is None else _read_part(file, offset, length)
            # Asked last, and of the very file that was read, so that no change slips through.
            status = os.fstat(file.fileno())
    except (OSError, ValueError) as error:
        raise StorageError(
            f"cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    found = FoundFile(path, status.st_size, status.st_mtime_ns).version
    if version and found != version:
        raise StorageError(
            f"changed since it was listed: version {version} expected, {found} found; "
            "the next run does it as it is then"
        )
    if length is not None and len(data) < length:
        raise StorageError(
            f"cut short: {length} bytes expected at byte {offset}, the file ends after {len(data)}"
        )
    return data


def write(root: str, name: str, data: bytes) -> None:
    """Write the file `name` below the folder `root`, whole or not at all.

    It is written below `root`'s folder of unfinished files and then moved into place.

    Raises:
        StorageError: the folder cannot be made or the file not be written; nothing is left of it.
    """
    path = os.path.join(root, name)
    unfinished = os.path.join(root, UNFINISHED, uuid.uuid4().hex)
    try:
        for needed in (path, unfinished):
            os.makedirs(os.path.dirname(needed), exist_ok=True)
        with open(unfinished, "xb") as file:
            file.write(data)
        os.replace(unfinished, path)
    except BaseException as error:
        with suppress(OSError):  # It may be why the write failed; the next run cleans up.
            os.unlink(unfinished)
        if isinstance(error, OSError):
            raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
        raise


def remove(path: str) -> None:
    """Remove a file, or a folder with all in it; raises StorageError where that is impossible."""
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be removed: {error.strerror or error}") from error


def exchange(first: str, second: str) -> None:
    """Let two folders of one file system change places in one step, so that neither is ever away.

    Raises:
        StorageError: the system or the file system cannot do that; nothing has changed.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise StorageError(f"{second}: this system cannot exchange two folders in one step")
    paths = (AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second))
    if rename(*paths, RENAME_EXCHANGE) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise StorageError(f"{second}: this file system cannot exchange two folders: {reason}")


def sync(path: str) -> None:
    """Wait until a file, or the list of a folder's files, is safe from a loss of power."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def remove_unfinished(root: str) -> int:
    """Remove what a process that was killed left unfinished below `root`; return how much it was.

    Call it while nobody else writes there.

    Raises:
        StorageError: a file or folder cannot be removed.
    """
    leftovers = glob.glob(os.path.join(glob.escape(root), UNFINISHED, "*"))
    for path in leftovers:
        remove(path)
    return len(leftovers)


def _read_part(file: FileIO, offset: int, length: int) -> bytes:
    """Up to `length` bytes from `offset`: all that are there, in however many parts they come."""
    file.seek(offset)
    data = bytearray()
    while len(data) < length and (part := file.read(length - len(data))):
        data += part
    return bytes(data)
