"""Below: folders of an output folder, reached without following a link.

The output folder may be a link, and so may the folders above it: that is the user's choice. Below
it nothing is written, moved or removed through a link, since that would change files elsewhere.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from transforms.storage.files import StorageError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def opened_folder(root: str, name: str, make: bool = False) -> Iterator[int]:
    """Context manager: a descriptor of the folder `name` below `root`, for use as `dir_fd`.

    Args:
        root: the output folder.
        name: the folder, relative to `root`; empty for `root` itself.
        make: whether missing folders below `root` are made.

    Raises:
        StorageError: a link stands in the way.
        OSError: the folder cannot be opened or made.
    """
    folder = os.open(root, _FOLDER)
    try:
        path = root
        for part in filter(None, name.split("/")):
            path = os.path.join(path, part)
            inner = _open(folder, part, path, make)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def sync_folders(root: str, name: str) -> None:
    """Flush the entries of a folder below `root`, and of the folders that lead to it, to the disk.

    Raises what `opened_folder` raises.
    """
    while True:
        with opened_folder(root, name) as folder:
            os.fsync(folder)
        if not name:
            return
        name = os.path.dirname(name)


def remove(folder: int, name: str) -> None:
    """Remove a file, a link, or a folder with all in it; links in it are not followed.

    Args:
        folder: descriptor of the folder that has it.
        name: its name there.

    Raises:
        OSError: it cannot be removed.
    """
    if not _is(stat.S_ISDIR, folder, name):
        os.unlink(name, dir_fd=folder)
        return
    for _, folders, files, inner in os.fwalk(name, topdown=False, onerror=_raise, dir_fd=folder):
        for entry in (*files, *folders):
            if _is(stat.S_ISDIR, inner, entry):
                os.rmdir(entry, dir_fd=inner)
            else:
                os.unlink(entry, dir_fd=inner)
    os.rmdir(name, dir_fd=folder)


def identity_of(status: os.stat_result) -> str:
    """See `storage.identity`."""
    return str(status.st_ino)


def refuse_link(folder: int, name: str, path: str) -> None:
    """Raise StorageError if an entry of a folder is a link; `path` names it in the message."""
    if _is(stat.S_ISLNK, folder, name):
        raise StorageError(
            f"{path} is a link; nothing is written or removed through a link below the output "
            "folder: put a file or folder of its own there, or make the whole output folder a link"
        )


def _open(folder: int, name: str, path: str, make: bool) -> int:
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
        return _open(folder, name, path, make=False)
    except OSError:
        refuse_link(folder, name, path)
        raise


def _is(kind: Callable[[int], bool], folder: int, name: str) -> bool:
    try:
        return kind(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _raise(error: OSError) -> None:
    raise error
