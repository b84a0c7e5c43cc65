"""One run at a time: a lock on an output folder that does not outlive its owner.

The lock is the kernel's (`flock`) on a file below the output folder: it goes when the owner's
process ends, however that ends, so no clock and no guess decides whether an owner is dead. The file
says who holds it, for people and for the next owner.
"""

import fcntl
import json
import logging
import os
import platform
import threading
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone

from transforms import storage

logger = logging.getLogger("citymask")

LOCK = f"{storage.WORK_FOLDER}/lock"
HEARTBEAT_SECONDS = 10.0


class LockedError(Exception):
    """Another run holds the output folder; the message says which, where and since when."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lock.

    Attributes:
        run_id: the run.
        host: name of its machine.
        pid: its process there.
        started: when it took the lock, UTC, ISO 8601.
        heartbeat: when it last said that it lives, UTC, ISO 8601.
    """

    run_id: str
    host: str
    pid: int
    started: str
    heartbeat: str

    def __str__(self) -> str:
        return (
            f"run {self.run_id} (host {self.host}, process {self.pid}, since {self.started}, "
            f"last heartbeat {self.heartbeat})"
        )


class OutputLock:
    """The lock of an output folder.

    Args:
        output: the output folder; it is made where it is not there.
        run_id: the run that wants the lock.
    """

    def __init__(self, output: str, run_id: str):
        self._output = output
        self._path = os.path.join(output, LOCK)
        now = _now()
        self._owner = Owner(run_id, platform.node(), os.getpid(), now, now)
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def acquire(self) -> None:
        """Take the lock and keep a heartbeat in its file.

        Raises:
            LockedError: another run holds it.
            OSError: the folder cannot be written.
        """
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = holder(self._output) or "another run"
            os.close(self._file)
            raise LockedError(
                f"{self._output}: {other} holds this folder; wait until it ends"
            ) from None
        previous = holder(self._output)
        if previous:
            logger.warning(
                "took the lock over from %s, which ended without giving it back", previous
            )
        self._write()
        self._heart.start()

    def release(self) -> None:
        """Give the lock back."""
        self._released.set()
        self._heart.join()
        os.ftruncate(self._file, 0)
        os.close(self._file)

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            self._owner = replace(self._owner, heartbeat=_now())
            self._write()

    def _write(self) -> None:
        text = json.dumps(asdict(self._owner)).encode().ljust(512)
        os.pwrite(self._file, text, 0)


def holder(output: str) -> Owner | None:
    """Whom the lock of an output folder names: who holds it, or died holding it.

    None where it was given back, is just being written, or was never taken.
    """
    try:
        with open(os.path.join(output, LOCK), "rb") as file:
            return Owner(**json.loads(file.read()))
    except (OSError, ValueError, TypeError):
        return None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
