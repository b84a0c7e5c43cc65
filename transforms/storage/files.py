"""What all stores share: descriptions of files, and errors."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

UNIX_START = datetime(1970, 1, 1, tzinfo=timezone.utc)

_VERSION = re.compile(r"-?[0-9]+-(-?[0-9]+)")

ABSENT = 0
"""The generation of a file that is not there."""


class StorageError(Exception):
    """A file could not be listed, read or written; the message names it and says why.

    Unless it is a `FileError`, the store is at fault: the file may be whole, and another try later
    may succeed.
    """


class FileError(StorageError):
    """The store answers, but the file itself is not what was asked for."""


class MissingError(FileError):
    """There is no such file."""


class ChangedError(FileError):
    """A file is not in the state that was asked for."""


class AccessError(StorageError):
    """A store cannot be used at all, such as for want of credentials; no other file would do."""


class NoStoreError(AccessError):
    """No store is known for a path like `http://...`, or a library for it is missing."""


@dataclass(frozen=True)
class FoundFile:
    """A file as listed: its path and what its version is made of.

    Attributes:
        path: where it is.
        size: bytes; -1 for a file that cannot be looked at.
        modified_ns: time of the last change, Unix nanoseconds.
        generation: number that an object store gives to each state of an object; 0 elsewhere.
        closed: whether it is a folder that could not be listed.
    """

    path: str
    size: int
    modified_ns: int
    generation: int = 0
    closed: bool = False

    @property
    def version(self) -> str:
        """Changes when the file is rewritten."""
        return f"{self.generation or self.size}-{self.modified_ns}"


UNSEEN = FoundFile("", -1, 0).version
"""The version of a file that could not be looked at: it is missing, or its store is at fault."""


@dataclass(frozen=True)
class Part:
    """A part of a folder that is listed apart from the others.

    Attributes:
        folder: where it is.
        deep: whether the folders below it belong to it.
    """

    folder: str
    deep: bool = True


def modified_at(version: str) -> datetime | None:
    """When a file of this version was last changed, UTC; None if no calendar has that time.

    File systems hold any number of nanoseconds. Of a file that could not be looked at it is None.
    """
    parts = _VERSION.fullmatch(version)
    if not parts or version == UNSEEN:
        return None
    try:
        return UNIX_START + timedelta(microseconds=int(parts[1]) // 1000)
    except OverflowError:
        return None


def changed(expected: str, found: str) -> ChangedError:
    """The error for a file that is not of the version in which it was listed."""
    return ChangedError(
        f"changed since it was listed: version {expected} expected, {found} found; "
        "the next run does it as it is then"
    )


def cut_short(offset: int, length: int, found: int) -> FileError:
    """The error for a file that ends too early."""
    return FileError(
        f"cut short: {length} bytes expected at byte {offset}, the file ends after {found}"
    )
