"""Fencing: who has lost the lock of an output folder writes nothing more there.

A run may be stalled for longer than its lock lasts: its process is stopped, its machine suspended,
its network gone. Another run then takes the folder over. When the first one wakes, it believes that
it still holds the lock. So it looks at the lock before each write. A store that knows generations
looks again between finding what it would replace and replacing that very generation: so nothing
that a later run wrote is ever replaced.
"""

import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from threading import Lock

from transforms import storage
from transforms.output import locking
from transforms.output.locking import LOCK, FolderGoneError, LockLostError

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that goes on while the machine is suspended."""


def check(output: str, owner: str) -> None:
    """Check that nobody took an output folder over.

    Args:
        output: the output folder.
        owner: who took its lock, see `locking.OutputLock`; empty: nobody did, nothing is checked.

    Raises:
        FolderGoneError: the folder, or the lock file in it, was removed or replaced.
        LockLostError: another has taken it since.
        StorageError: the lock file cannot be read.
    """
    if not owner:
        return
    found = locking.last_owner(output)
    path = f"{output}/{LOCK}"
    if found is None and not storage.exists(path):
        raise _gone(output, LOCK)
    if found is None or owner not in (found.run_id, found.writer):
        other = f"{found} has taken this folder over" if found else f"{LOCK} is gone or damaged"
        raise LockLostError(
            f"{output}: run {owner} has lost the lock: {other}. It writes nothing more; "
            "what is not done is left for the next run"
        )
    if found.identity and found.identity != storage.identity(path):
        raise _gone(output, LOCK)


def check_folders(output: str, folders: Iterable[tuple[str, str]]) -> None:
    """Check that folders of an output folder are still the same.

    Args:
        output: the output folder.
        folders: name and `storage.identity` of each.

    Raises:
        FolderGoneError: one was removed or replaced.
    """
    for name, identity in folders:
        if identity != storage.identity(f"{output}/{name}"):
            raise _gone(output, name)


def check_masks(output: str, masks: Iterable[str]) -> None:
    """Check that masks, named by their paths in an output folder, are there.

    Where looking costs requests nothing is checked.

    Raises:
        FolderGoneError: one was removed.
    """
    if storage.store_of(output).costs_requests:
        return
    for mask in masks:
        if not storage.exists(f"{output}/{mask}"):
            raise _gone(output, mask)


def _gone(output: str, name: str) -> FolderGoneError:
    return FolderGoneError(
        f"{output}: {name} is gone: the output folder, or a part of it, was removed or replaced "
        "during the run. It writes nothing more; the next run does again what is missing"
    )


def write(output: str, name: str, data: bytes, owner: str = "", durable: bool = True) -> None:
    """Write a file in an output folder, unless another has taken the folder over.

    Args:
        output: the output folder.
        name: path of the file in it.
        data: its content.
        owner: see `check`.
        durable: see `storage.write`.

    Raises:
        LockLostError: another has taken the folder over.
        StorageError: the file cannot be written.
    """
    Fence(output, owner).write(name, data, durable)


class Fence:
    """Writes the files of one owner. Where looking at the lock costs a request, it does not look
    for each new file: half a heartbeat later is soon enough, as a lock lasts several of them.

    Args:
        output: the output folder.
        owner: see `check`.
    """

    def __init__(self, output: str, owner: str):
        self._output = output
        self._check = partial(check, output, owner) if owner else None
        self._looks_seldom = storage.store_of(output).costs_requests
        self._checking = Lock()
        self._checked = -math.inf

    def write(self, name: str, data: bytes, durable: bool = True) -> None:
        """See the function `write`."""
        if self._check and self._looks_seldom:
            self._look_seldom(self._check)
        storage.write(self._output, name, data, durable, self._check)

    def _look_seldom(self, look: Callable[[], None]) -> None:
        with self._checking:
            now = time.clock_gettime(_CLOCK)
            if now - self._checked > locking.PULSE.seconds / 2:
                look()
                self._checked = now
