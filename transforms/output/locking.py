"""One run at a time: a lock on an output folder that does not outlive its owner.

In a local folder the lock is the kernel's (`flock`) on a file: it goes when the owner's process
ends, however that ends, so no clock and no guess decides whether an owner is dead. In Google Cloud
Storage the lock is an object that is created only if it is not there, and then only ever replaced
in the generation that its owner knows. An owner writes it anew with every heartbeat; one that is
silent for a while is dead, and its lock is taken over. That is watched, so two machines' clocks are
never compared. The file says who holds the lock, for people and for the next owner.
"""

import fcntl
import json
import logging
import os
import platform
import threading
import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Protocol

from transforms import storage
from transforms.storage import gcs

logger = logging.getLogger(__name__)

LOCK = f"{storage.WORK_FOLDER}/lock"
HEARTBEAT_SECONDS = 10.0
SILENT_HEARTBEATS = 3
"""After so many that did not come, the owner of a lock object is dead."""


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

    @classmethod
    def parse(cls, data: bytes) -> "Owner | None":
        """The owner that a lock file names; None where it names none, or is just being written."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):
            return None

    def to_json(self) -> bytes:
        """What `parse` reads, always of one length."""
        return json.dumps(asdict(self)).encode().ljust(512)


class OutputLock:
    """The lock of an output folder.

    Args:
        output: the output folder; a local one is made where it is not there.
        run_id: the run that wants the lock.
    """

    def __init__(self, output: str, run_id: str):
        self._file: _LockFile = _LockObject(output) if storage.is_remote(output) else _Flock(output)
        now = _now()
        self._owner = Owner(run_id, platform.node(), os.getpid(), now, now)
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def acquire(self) -> None:
        """Take the lock and keep a heartbeat in its file.

        Raises:
            LockedError: another run holds it.
            OSError: the folder, a local one, cannot be written.
            StorageError: the same of a remote one.
        """
        previous = self._file.take(self._owner)
        if previous:
            logger.warning(
                "took the lock over from %s, which ended without giving it back", previous
            )
        self._heart.start()

    def release(self) -> None:
        """Give the lock back."""
        self._released.set()
        self._heart.join()
        self._file.give_back()

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            self._owner = replace(self._owner, heartbeat=_now())
            try:
                self._file.write(self._owner)
            except LockedError as error:
                logger.error("lost the lock: %s", error)
                return
            except storage.StorageError as error:
                logger.warning("no heartbeat: %s", error)


class _LockFile(Protocol):
    """The file of a lock, in one of the ways in which a lock can be held."""

    def take(self, owner: Owner) -> Owner | None:
        """Take the lock; the owner who died holding it, if one did. LockedError: it is held."""

    def write(self, owner: Owner) -> None:
        """Say that the owner lives. LockedError: the lock is another's by now."""

    def give_back(self) -> None:
        """Let others take it."""


class _Flock:
    """A lock in a local folder."""

    def __init__(self, output: str):
        self._output = output

    def take(self, owner: Owner) -> Owner | None:
        path = os.path.join(self._output, LOCK)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise _held(self._output, holder(self._output)) from None
        previous = holder(self._output)
        self.write(owner)
        return previous

    def write(self, owner: Owner) -> None:
        os.pwrite(self._file, owner.to_json(), 0)

    def give_back(self) -> None:
        os.ftruncate(self._file, 0)
        os.close(self._file)


class _LockObject:
    """A lock in Google Cloud Storage."""

    def __init__(self, output: str):
        self._output = output
        self._path = f"{output}/{LOCK}"
        self._generation = gcs.ABSENT

    def take(self, owner: Owner) -> Owner | None:
        previous = self._dead_owner()
        self.write(owner)
        return previous

    def write(self, owner: Owner) -> None:
        try:
            self._generation = gcs.put(self._path, owner.to_json(), self._generation)
        except storage.ChangedError as error:
            raise _held(self._output, holder(self._output)) from error

    def give_back(self) -> None:
        try:
            gcs.put(self._path, b"", self._generation)
        except storage.StorageError as error:
            logger.error("the lock was not given back: %s", error)

    def _dead_owner(self) -> Owner | None:
        """Who gave no sign of life for so long that the lock is nobody's; None where it is free."""
        data, self._generation = gcs.get(self._path)
        owner = Owner.parse(data)
        if owner is None:
            return None
        logger.info("%s holds the lock; waiting for a sign of life", owner)
        end = time.monotonic() + SILENT_HEARTBEATS * HEARTBEAT_SECONDS
        while time.monotonic() < end:
            time.sleep(HEARTBEAT_SECONDS / 10)
            if storage.find(self._path).generation != self._generation:
                data, self._generation = gcs.get(self._path)
                if alive := Owner.parse(data):
                    raise _held(self._output, alive)
                return None
        return owner


def holder(output: str) -> Owner | None:
    """Whom the lock of an output folder names: who holds it, or died holding it.

    None where it was given back, is just being written, was never taken, or cannot be read now.
    """
    try:
        return Owner.parse(storage.read(f"{output}/{LOCK}"))
    except storage.StorageError:
        return None


def _held(output: str, owner: Owner | None) -> LockedError:
    return LockedError(f"{output}: {owner or 'another run'} holds this folder; wait until it ends")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
