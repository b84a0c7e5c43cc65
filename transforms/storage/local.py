"""Local files. Writes are made apart and moved into place, so that each is whole or not there."""

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

WORK_FOLDER = ".citymask"
UNFINISHED = f"{WORK_FOLDER}/unfinished"
"""Folder of what is being written; no reader takes it for results."""

AT_FDCWD = -100
RENAME_EXCHANGE = 2
"""Of renameat2(2): paths are relative to the working folder; both change places."""


def is_folder(path: str) -> bool:
    """See `storage.is_folder`."""
    return os.path.isdir(path)


def parts(folder: str) -> Iterator[Part]:
    """See `storage.parts`: a local folder is listed as a whole."""
    yield Part(folder)


def folders(folder: str) -> Iterator[str]:
    """See `storage.folders`; links to folders are among them."""
    with _explained(f"{folder}: cannot be listed"), os.scandir(folder) as entries:
        yield from (entry.path for entry in entries if entry.is_dir())


def walk(part: Part, excluded: str, follow_links: bool) -> Iterator[FoundFile]:
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
            yield find(os.path.join(folder, name))
        if not part.deep:
            break
    for folder in unlisted:
        if folder == part.folder:
            raise StorageError(f"{folder}: cannot be listed; check its permissions")
        yield replace(find(folder), closed=True)


def matching(pattern: str) -> Iterator[FoundFile]:
    """See `storage.matching`."""
    for path in sorted(glob.glob(pattern, recursive=True)):
        if os.path.isfile(path):
            yield find(path)


def find(path: str) -> FoundFile:
    """See `storage.find`."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the path.
        return FoundFile(path, -1, 0)
    return FoundFile(path, status.st_size, status.st_mtime_ns)


def read(path: str, offset: int, length: int | None, version: str) -> bytes:
    """See `storage.read`."""
    with _opened(path) as file, _explained("cannot be read"):
        data = file.readall() if length is None else _read_part(file, offset, length)
        # Asked last, and of the very file that was read, so that no change slips through.
        status = os.fstat(file.fileno())
    found = FoundFile(path, status.st_size, status.st_mtime_ns).version
    if version and found != version:
        raise changed(version, found)
    if length is not None and len(data) < length:
        raise cut_short(offset, length, len(data))
    return data


def open_file(path: str) -> BinaryIO:
    """See `storage.open_file`."""
    return BufferedReader(_opened(path))


def write(root: str, name: str, data: bytes) -> None:
    """See `storage.write`."""
    with writing(root, name) as file:
        file.write(data)


@contextmanager
def writing(root: str, name: str) -> Iterator[BinaryIO]:
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
        with suppress(OSError):  # It may be why the write failed; the next run cleans up.
            os.unlink(unfinished)
        raise


def remove(path: str) -> None:
    """See `storage.remove`."""
    with _explained(f"{path}: cannot be removed"):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def move(source: str, target: str) -> None:
    """See `storage.move`."""
    with _explained(f"{source}: cannot be moved to {target}"):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.replace(source, target)


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
    """See `storage.remove_unfinished`."""
    leftovers = glob.glob(os.path.join(glob.escape(root), UNFINISHED, "*"))
    for path in leftovers:
        remove(path)
    return len(leftovers)


def _opened(path: str) -> FileIO:
    """The file, unbuffered; raises StorageError where it cannot be opened, or is none."""
    with _explained("cannot be read"):
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # Opening a pipe waits for ever.
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
    """Up to `length` bytes from `offset`: all that are there, in however many parts they come."""
    file.seek(offset)
    data = bytearray()
    while len(data) < length and (part := file.read(length - len(data))):
        data += part
    return bytes(data)
