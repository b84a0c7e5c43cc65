"""Locking: one run at a time per output folder; the lock does not outlive its owner.

How the lock is held depends on the store of the folder, see `transforms.storage.locks`. The lock
file names the owner, for people and for the next run.
"""

import logging
import os
import platform
import threading
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from transforms import storage
from transforms.storage.locks import FolderGoneError, LockedError, LockLostError, Owner, Pulse

__all__ = [
    "LOCK",
    "PULSE",
    "FolderGoneError",
    "LockLostError",
    "LockedError",
    "OutputLock",
    "Owner",
    "Pulse",
    "holder",
    "last_owner",
]

logger = logging.getLogger(__name__)

LOCK = f"{storage.WORK_FOLDER}/lock"

PULSE = Pulse()
"""The heartbeat of all runs. It must be the same for all writers of a folder."""


class OutputLock:
    """The lock of an output folder.

    Args:
        output: the output folder; a missing local folder is created.
        run_id: the run that wants the lock.
        pulse: how often the owner writes a heartbeat; by default `PULSE`.
        writes: whether it writes rows. The lock of one that does not leaves a job that was
            submitted and is at work elsewhere the right to write.
    """

    def __init__(self, output: str, run_id: str, pulse: Pulse | None = None, writes: bool = True):
        self._output = output
        self._pulse = pulse or PULSE
        self._file = storage.lock_file(output, LOCK)
        now = _now()
        writer = run_id if writes else ""
        self._owner = Owner(run_id, platform.node(), os.getpid(), now, now, writer)
        self._writing = threading.Lock()
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def acquire(self) -> None:
        """Take the lock and keep a heartbeat in its file.

        Raises:
            LockedError: another run holds it.
            OSError: the folder is local and cannot be written.
            StorageError: the folder is in another store and cannot be written.
        """
        previous = self._file.take(self._owner, self._pulse)
        self._owner = self._owner.after(previous)
        self._writer_before = previous.writer if previous else ""
        if previous and not previous.released:
            logger.warning("took the lock over from %s, which ended without releasing it", previous)
        self._heart.start()

    @property
    def unchecked(self) -> str:
        """See `Owner.unchecked`."""
        return self._owner.unchecked

    def note_check(self) -> None:
        """Note that what a run that died has left is checked; raises what `LockFile.write` does."""
        self._write(unchecked="")

    def release(self, wrote: bool = True) -> None:
        """Release the lock, once all that was written is on the disk; else it stays unchecked.

        Args:
            wrote: whether rows may have been written; else the run that had the right to write
                before has it again.
        """
        self._released.set()
        self._heart.join()
        writer = self._owner.writer if wrote else self._writer_before
        owner = replace(self._owner, writer=writer)
        try:
            storage.flush(self._output)
        except storage.StorageError as error:
            logger.warning("%s; the next run checks what was written", error)
            owner = replace(owner, unchecked=owner.unchecked or owner.started)
        self._file.give_back(owner)

    def _write(self, **changes: Any) -> None:
        with self._writing:  # Two writes at once would take each other for another owner's.
            self._owner = replace(self._owner, **changes)
            self._file.write(self._owner)

    def _beat(self) -> None:
        while not self._released.wait(self._pulse.seconds):
            try:
                self._write(heartbeat=_now())
            except LockedError as error:
                logger.error("lost the lock: %s", error)
                return
            except (storage.StorageError, OSError) as error:
                logger.warning("no heartbeat: %s", error)


def holder(output: str) -> Owner | None:
    """The owner named in the lock file of an output folder: it holds the lock, or died holding it.

    None if the lock is free, is being written, or cannot be read.
    """
    try:
        owner = last_owner(output)
    except storage.StorageError:
        return None
    return None if owner is None or owner.released else owner


def last_owner(output: str) -> Owner | None:
    """The owner named in the lock file of an output folder, whether or not it gave the lock back.

    None if there is no such file, or it is damaged.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        return Owner.parse(storage.read(f"{output}/{LOCK}"))
    except storage.MissingError:
        return None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
