"""A store in memory: `memory://` while a test uses it, and an example of what a store has to do."""

import io
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import BinaryIO, TypeVar

import pytest

from transforms import storage
from transforms.storage import ChangedError, FoundFile, MissingError, Part, Store
from transforms.storage.files import ABSENT, changed, cut_short
from transforms.storage.locks import LockFile, ObjectLock

S = TypeVar("S", bound=Store)


@contextmanager
def registered(scheme: str, store: S) -> Iterator[S]:
    """As a context: a store is used for a scheme."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "_stores", dict(storage._stores))
        storage.register(scheme, store)
        yield store


@dataclass(frozen=True)
class Stored:
    """A file: its bytes, the number of its state among all states of all files, and its time."""

    data: bytes
    generation: int
    modified_ns: int


class MemoryStore(Store):
    """Files in the memory of this process, by path; a folder is what files are below.

    Attributes:
        stored: the files; tests may look at them.
    """

    output_form = "memory://NAME"
    shared = False
    costs_requests = False

    def __init__(self) -> None:
        self.stored: dict[str, Stored] = {}
        self._written = 0
        self._lock = Lock()

    def is_folder(self, path: str) -> bool:
        return any(self.is_below(file, path) for file in list(self.stored))

    def folders(self, folder: str) -> Iterator[str]:
        names = (path[len(folder) + 1 :] for path in self._below(folder))
        yield from {f"{folder}/{name.partition('/')[0]}" for name in names if "/" in name}

    def walk(self, part: Part, excluded: str, follow_links: bool) -> Iterator[FoundFile]:
        for path in self._below(part.folder):
            inside = part.deep or "/" not in path[len(part.folder) + 1 :]
            if inside and not (excluded and self.is_below(path, excluded)):
                yield self.find(path)

    def matching(self, pattern: str) -> Iterator[FoundFile]:
        wildcards = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
        wanted = re.compile("".join(wildcards.get(part) or re.escape(part) for part in parts))
        return map(self.find, filter(wanted.fullmatch, sorted(self.stored)))

    def find(self, path: str) -> FoundFile:
        stored = self.stored.get(path)
        if stored is None:
            return FoundFile(path, -1, 0)
        return FoundFile(path, len(stored.data), stored.modified_ns, stored.generation)

    def read(self, path: str, offset: int, length: int | None, version: str) -> bytes:
        found, stored = self.find(path), self.stored.get(path)
        if stored is None:
            raise MissingError("cannot be read: no such file in memory")
        if version and found.version != version:
            raise changed(version, found.version)
        data = stored.data[offset:] if length is None else stored.data[offset : offset + length]
        if length is not None and len(data) < length:
            raise cut_short(offset, length, len(data))
        return data

    def open_file(self, path: str) -> BinaryIO:
        return io.BytesIO(self.read(path, 0, None, ""))

    def write(self, root: str, name: str, data: bytes, durable: bool = False) -> None:
        path = os.path.join(root, name)
        with self._lock:
            self._put(path, data)

    @contextmanager
    def writing(self, root: str, name: str, durable: bool = False) -> Iterator[BinaryIO]:
        file = io.BytesIO()
        yield file
        self.write(root, name, file.getvalue())

    def put(self, path: str, data: bytes, generation: int) -> int:
        """Write a file in place of one generation of it; this is what `ObjectLock` asks for."""
        with self._lock:
            there = self.stored.get(path)
            if (there.generation if there else ABSENT) != generation:
                raise ChangedError(f"{path}: somebody else has written it meanwhile")
            return self._put(path, data)

    def remove(self, root: str, name: str) -> None:
        path = os.path.join(root, name)
        for file in [path, *self._below(path)]:
            self.stored.pop(file, None)

    def move(self, root: str, name: str, target: str) -> None:
        self.write(root, target, self.read(os.path.join(root, name), 0, None, ""))
        self.remove(root, name)

    def lock_file(self, root: str, name: str) -> LockFile:
        return ObjectLock(self, root, name)

    def _put(self, path: str, data: bytes) -> int:
        self._written += 1
        self.stored[path] = Stored(bytes(data), self._written, time.time_ns())
        return self._written

    def _below(self, folder: str) -> list[str]:
        return sorted(path for path in list(self.stored) if self.is_below(path, folder))
