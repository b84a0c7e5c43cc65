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

from transforms import storage
from transforms.storage.locks import LockedError, Owner, Pulse

__all__ = ["LOCK", "PULSE", "LockedError", "OutputLock", "Owner", "Pulse", "holder"]

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
    """

    def __init__(self, output: str, run_id: str, pulse: Pulse | None = None):
        self._pulse = pulse or PULSE
        self._file = storage.lock_file(output, LOCK)
        now = _now()
        self._owner = Owner(run_id, platform.node(), os.getpid(), now, now)
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
        if previous:
            logger.warning("took the lock over from %s, which ended without releasing it", previous)
        self._heart.start()

    def release(self) -> None:
        """Release the lock."""
        self._released.set()
        self._heart.join()
        self._file.give_back()

    def _beat(self) -> None:
        while not self._released.wait(self._pulse.seconds):
            self._owner = replace(self._owner, heartbeat=_now())
            try:
                self._file.write(self._owner)
            except LockedError as error:
                logger.error("lost the lock: %s", error)
                return
            except storage.StorageError as error:
                logger.warning("no heartbeat: %s", error)


def holder(output: str) -> Owner | None:
    """The owner named in the lock file of an output folder: it holds the lock, or died holding it.

    None if the lock is free, is being written, or cannot be read.
    """
    try:
        return Owner.parse(storage.read(f"{output}/{LOCK}"))
    except storage.StorageError:
        return None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
