"""Local files. A file is written under a temporary name and renamed, so it is always whole."""

import ctypes
import errno
import glob
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from io import BufferedReader, FileIO
from typing import BinaryIO

from transforms.storage import below
from transforms.storage.below import opened_folder
from transforms.storage.files import (
    FileError,
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

NOT_A_FILE = frozenset({errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO})
"""System errors that say of a path, not of the disk, that no file can be read there."""

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
        if not follow_links and os.path.islink(part.folder):
            return
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
            if not os.path.isdir(path):  # What is no file fails when it is read.
                yield self.find(path)

    def find(self, path: str) -> FoundFile:
        """See `storage.find`."""
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # ValueError: a NUL in the path.
            return FoundFile(path, -1, 0)
        return FoundFile(path, status.st_size, status.st_mtime_ns)

    def is_missing(self, path: str) -> bool:
        """See `storage.is_missing`."""
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL.
            return True
        except OSError:
            return False
        return False

    def read(self, path: str, offset: int, length: int | None, version: str) -> bytes:
        """See `storage.read`."""
        with BufferedReader(_opened(path)) as file, _explained("cannot be read"):
            file.seek(offset)
            data = file.read() if length is None else file.read(length)
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

    def write(self, root: str, name: str, data: bytes, durable: bool = False) -> None:
        """See `storage.write`."""
        with self.writing(root, name, durable) as file:
            file.write(data)

    def write_checked(
        self, root: str, name: str, data: bytes, durable: bool, check: Callable[[], None]
    ) -> None:
        """See `storage.write`."""
        with self.writing(root, name, durable, check) as file:
            file.write(data)

    @contextmanager
    def writing(
        self,
        root: str,
        name: str,
        durable: bool = False,
        check: Callable[[], None] | None = None,
    ) -> Iterator[BinaryIO]:
        """See `storage.writing`; `check` as in `storage.write`.

        The file is written below `root`'s folder of unfinished files and then moved into place.
        """
        folder, base = os.path.split(name)
        unfinished = uuid.uuid4().hex
        if check is None:  # Else there is a lock in `root`; if it is gone, it must not come back.
            os.makedirs(root, exist_ok=True)
        with (
            _explained(f"{os.path.join(root, name)}: cannot be written"),
            opened_folder(root, UNFINISHED, make=True) as beside,
            opened_folder(root, folder, make=True) as place,
        ):
            try:
                with os.fdopen(_new_file(unfinished, beside), "wb") as file:
                    yield file
                    if durable:
                        file.flush()
                        os.fsync(file.fileno())
                if check:
                    check()
                os.replace(unfinished, base, src_dir_fd=beside, dst_dir_fd=place)
            except BaseException:
                with suppress(OSError):  # The next run cleans up.
                    os.unlink(unfinished, dir_fd=beside)
                raise
            if durable:
                below.sync_folders(root, folder)

    def flush(self, root: str) -> None:
        """See `storage.flush`; the whole file system is, which costs one commit of its journal."""
        with (
            _explained(f"{root}: cannot be flushed to the disk"),
            opened_folder(root, "") as folder,
        ):
            _sync_file_system(folder)

    def remove(self, root: str, name: str) -> None:
        """See `storage.remove`."""
        folder, base = os.path.split(name)
        with (
            _explained(f"{os.path.join(root, name)}: cannot be removed"),
            opened_folder(root, folder) as place,
        ):
            below.remove(place, base)

    def move(self, root: str, name: str, target: str) -> None:
        """See `storage.move`."""
        folder, base = os.path.split(name)
        target_folder, target_base = os.path.split(target)
        with (
            _explained(f"{os.path.join(root, name)}: cannot be moved to {target}"),
            opened_folder(root, folder) as place,
            opened_folder(root, target_folder, make=True) as target_place,
        ):
            os.replace(base, target_base, src_dir_fd=place, dst_dir_fd=target_place)

    @contextmanager
    def kept_folder(self, root: str, name: str) -> Iterator[str]:
        """See `storage.kept_folder`."""
        with ExitStack() as stack:
            with _explained(f"{os.path.join(root, name)}: cannot be made"):
                folder = stack.enter_context(opened_folder(root, name, make=True))
            yield below.identity_of(os.fstat(folder))

    def identity(self, path: str) -> str:
        """See `storage.identity`."""
        try:
            return below.identity_of(os.stat(path))
        except OSError:
            return ""

    def check_folder(self, root: str, name: str) -> None:
        """See `storage.check_folder`."""
        with suppress(OSError), opened_folder(root, name):
            pass

    def lock_file(self, root: str, name: str) -> LockFile:
        """See `storage.lock_file`."""
        return Flock(root, name)

    def remove_unfinished(self, root: str) -> int:
        """See `storage.remove_unfinished`."""
        with (
            suppress(MissingError),
            _explained(f"{os.path.join(root, UNFINISHED)}: cannot be emptied"),
            opened_folder(root, UNFINISHED) as folder,
        ):
            leftovers = os.listdir(folder)
            for name in leftovers:
                below.remove(folder, name)
            return len(leftovers)
        return 0


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


def _sync_file_system(folder: int) -> None:
    """Flush the file system that has a folder, which is open, to the disk; raises OSError."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
    elif syncfs(folder) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _new_file(name: str, folder: int) -> int:
    """A descriptor of a new file in a folder that is open."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.open(name, flags, 0o666, dir_fd=folder)


def _opened(path: str) -> FileIO:
    """The file, unbuffered; raises StorageError if it is no file or cannot be opened."""
    with _explained("cannot be read"):
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # Opening a pipe would block.
            raise FileError("cannot be read: neither a file nor a link to one")
        return open(path, "rb", buffering=0)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the system's errors into a StorageError that begins with `what`."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path.
        raise _kind(error)(f"{what}: {getattr(error, 'strerror', None) or error}") from error


def _kind(error: OSError | ValueError) -> type[StorageError]:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return MissingError
    of_file = isinstance(error, ValueError) or error.errno in NOT_A_FILE
    return FileError if of_file else StorageError
