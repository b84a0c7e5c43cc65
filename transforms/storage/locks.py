"""Locks: files that one process at a time holds, and that name their owner.

`Flock` is for local folders: the kernel releases the lock when the owner's process ends, however it
ends, so no clock decides whether an owner is dead. `ObjectLock` is for object stores: the lock is
an object that is only ever replaced in the generation that its owner knows, and the owner rewrites
it with every heartbeat. A process that wants the lock watches for that, so the clocks of two
machines are never compared.

A lock that is given back still names its last owner, and the last run that took it to write. An
owner that was stalled, and believes that it holds the lock, sees there that another took it.

The package `filelock` does not replace `Flock`: it truncates the file before it locks it, so a
refused process would erase the owner's record, which the message and the next owner need.
"""

import fcntl
import json
import logging
import os
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Protocol

from transforms.storage.below import identity_of, opened_folder, refuse_link, sync_folders
from transforms.storage.files import (
    ABSENT,
    ChangedError,
    FoundFile,
    MissingError,
    StorageError,
)

logger = logging.getLogger(__name__)


class LockedError(Exception):
    """Another run holds the output folder; the message says which, where and since when."""


class LockLostError(Exception):
    """Another run has taken the output folder over; the message says which, and what to do."""


class FolderGoneError(LockLostError):
    """The output folder, or a part of it, was removed or replaced while a run was writing there."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lock.

    Attributes:
        run_id: the run.
        host: name of its machine.
        pid: its process there.
        started: when it took the lock, UTC, ISO 8601.
        heartbeat: its last sign of life, UTC, ISO 8601.
        writer: the run that was the last to take the lock in order to write rows; empty if none
            was. It is this one, or one before it that may still be at work on other machines.
        released: whether it has given the lock back.
        unchecked: the time since which files may have been damaged, because a run died, and were
            not checked; ISO 8601; empty if there is none.
        identity: what tells the lock file from a copy of it, see `storage.identity`.
    """

    run_id: str
    host: str
    pid: int
    started: str
    heartbeat: str
    writer: str = ""
    released: bool = False
    unchecked: str = ""
    identity: str = ""

    def __str__(self) -> str:
        return (
            f"run {self.run_id} (host {self.host}, process {self.pid}, since {self.started}, "
            f"last heartbeat {self.heartbeat}{', ended' if self.released else ''})"
        )

    def after(self, previous: "Owner | None") -> "Owner":
        """This owner as it takes the lock after another: one that only reads names its writer."""
        if previous is None:
            return self
        unchecked = previous.unchecked or ("" if previous.released else previous.started)
        return replace(self, writer=self.writer or previous.writer, unchecked=unchecked)

    def is_same(self, other: "Owner | None") -> bool:
        """Whether the other is this owner, at whatever time."""
        return other is not None and (self.run_id, self.host, self.pid, self.started) == (
            other.run_id, other.host, other.pid, other.started
        )  # fmt: skip

    @classmethod
    @lru_cache(maxsize=1)  # It is looked at before each write, and seldom changes.
    def parse(cls, data: bytes) -> "Owner | None":
        """The owner that a lock file names; None if it is empty, damaged or half written."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):
            return None

    def to_json(self) -> bytes:
        """What `parse` reads, always of the same length."""
        return json.dumps(asdict(self)).encode().ljust(512)


UNKNOWN = Owner("unknown", "unknown", 0, "1970-01-01T00:00:00+00:00", "unknown")
"""The owner that died, after a power cut that has damaged the lock file."""


@dataclass(frozen=True)
class Pulse:
    """The heartbeat of a lock's owner.

    Attributes:
        seconds: between two heartbeats.
        missing: an owner is dead after so many heartbeats that did not come.
    """

    seconds: float = 10.0
    missing: float = 3


class LockFile(ABC):
    """The file of a lock."""

    @abstractmethod
    def take(self, owner: Owner, pulse: Pulse) -> Owner | None:
        """Take the lock; the file then names `owner.after` the previous one.

        Args:
            owner: who takes it.
            pulse: how often owners of this lock give a sign of life.

        Returns:
            The owner before, which has given the lock back or died; None if there was none.

        Raises:
            LockedError: the lock is held.
            OSError: the folder, a local one, cannot be written.
            StorageError: the same for any other store.
        """

    @abstractmethod
    def write(self, owner: Owner) -> None:
        """Renew the owner's sign of life; raises LockedError if another took the lock over."""

    @abstractmethod
    def give_back(self, owner: Owner) -> None:
        """Release the lock, unless another took it over; the file still names the owner."""


class Flock(LockFile):
    """A lock on a file of a local folder; the folder is made if it is missing.

    Only those who may write to that folder may open the file.
    """

    def __init__(self, root: str, name: str):
        self._root = root
        self._name = name
        self._path = os.path.join(root, name)

    def take(self, owner: Owner, pulse: Pulse) -> Owner | None:
        folder, name = os.path.split(self._name)
        os.makedirs(self._root, exist_ok=True)
        with opened_folder(self._root, folder, make=True) as opened:
            refuse_link(opened, name, self._path)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(name, flags, 0o600, dir_fd=opened)
            _only_for_writers(self._file, opened)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise _held(self._root, self._owner()) from None
        previous = self._owner()
        if previous is None and os.fstat(self._file).st_size:
            previous = UNKNOWN
        self._put(owner.after(previous))
        os.fsync(self._file)  # After a power cut the next owner must see that this one has died.
        sync_folders(self._root, folder)
        return previous

    def write(self, owner: Owner) -> None:
        try:
            # A network file system may have lost it; who has it loses nothing by taking it again.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(self._root, self._owner()) from None
        found = self._owner()
        if not owner.is_same(found):
            raise _held(self._root, found)
        self._put(owner)

    def give_back(self, owner: Owner) -> None:
        try:
            self.write(replace(owner, released=True))
        except (LockedError, OSError) as error:
            logger.error("the lock was not given back: %s", error)
        finally:
            os.close(self._file)

    def _put(self, owner: Owner) -> None:
        data = replace(owner, identity=identity_of(os.fstat(self._file))).to_json()
        os.pwrite(self._file, data, 0)
        os.ftruncate(self._file, len(data))

    def _owner(self) -> Owner | None:
        try:
            with open(self._path, "rb") as file:
                return Owner.parse(file.read())
        except OSError:
            return None


def _only_for_writers(file: int, folder: int) -> None:
    """Let those open a lock file who may write to its folder; both are descriptors.

    Whoever may open a file may hold its lock, and so keep every run out.
    """
    found = os.fstat(folder)
    writers = found.st_mode & 0o222
    access = 0o600 | writers | writers << 1
    with suppress(PermissionError):  # The file is another user's, or the group is not one of ours.
        os.fchmod(file, access & ~0o060)
        os.fchown(file, -1, found.st_gid)
        os.fchmod(file, access)


class Generations(Protocol):
    """A store that gives each state of a file a number, and can replace a state that is known."""

    def find(self, path: str) -> FoundFile:
        """See `storage.find`; with the `generation`."""

    def read(self, path: str, offset: int, length: int | None, version: str) -> bytes:
        """See `storage.read`."""

    def put(self, path: str, data: bytes, generation: int) -> int:
        """Write a file in place of one generation of it, `ABSENT` for none; return the new one.

        Raises:
            ChangedError: another generation is there; it stays.
            StorageError: the file cannot be written.
        """


def read_generation(store: Generations, path: str) -> tuple[bytes, int]:
    """The bytes of a file and the generation that has them; without a file b"" and `ABSENT`.

    Raises:
        StorageError: the file cannot be read.
    """
    while (found := store.find(path)).size >= 0:
        with suppress(ChangedError, MissingError):
            return store.read(path, 0, None, found.version), found.generation
    return b"", ABSENT


class ObjectLock(LockFile):
    """A lock in a store that knows the generations of its files."""

    def __init__(self, store: Generations, root: str, name: str):
        self._store = store
        self._root = root
        self._path = f"{root}/{name}"
        self._generation = ABSENT

    def take(self, owner: Owner, pulse: Pulse) -> Owner | None:
        previous = self._previous(pulse)
        self.write(owner.after(previous))
        return previous

    def write(self, owner: Owner) -> None:
        try:
            self._generation = self._store.put(self._path, owner.to_json(), self._generation)
        except ChangedError as error:
            raise _held(self._root, self._owner()) from error

    def give_back(self, owner: Owner) -> None:
        data = replace(owner, released=True).to_json()
        try:
            self._store.put(self._path, data, self._generation)
        except StorageError as error:
            logger.error("the lock was not given back: %s", error)

    def _previous(self, pulse: Pulse) -> Owner | None:
        """The last owner: it has given the lock back, or gave no sign of life for a while."""
        data, self._generation = read_generation(self._store, self._path)
        owner = Owner.parse(data)
        if owner is None or owner.released:
            return owner
        logger.info("%s holds the lock; waiting for a sign of life", owner)
        end = time.monotonic() + pulse.missing * pulse.seconds
        while time.monotonic() < end:
            time.sleep(pulse.seconds / 10)
            if self._store.find(self._path).generation != self._generation:
                data, self._generation = read_generation(self._store, self._path)
                found = Owner.parse(data)
                if found and not found.released:
                    raise _held(self._root, found)
                return found
        return owner

    def _owner(self) -> Owner | None:
        try:
            return Owner.parse(self._store.read(self._path, 0, None, ""))
        except StorageError:
            return None


def _held(root: str, owner: Owner | None) -> LockedError:
    return LockedError(f"{root}: {owner or 'another run'} holds this folder; wait until it ends")
