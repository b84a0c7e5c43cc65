"""Power cuts: what a run asks of the disk is recorded, and what a cut may leave of it is rebuilt.

A disk has what was flushed before the cut. Of all else it may have anything: any of the entries of
folders that were made, replaced and removed, with or without the others, and of the data of a file
all, a part, zeros, or nothing. Only the exchange of two folders is taken for one step.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Any

import pytest

from transforms.storage import local

TOP = 0
"""The number of the recorded folder itself."""


@dataclass(frozen=True)
class Data:
    """A file has this content; like all files and folders it has a number."""

    file: int
    data: bytes


@dataclass(frozen=True)
class Entry:
    """A name in a folder leads to a file or folder; None: there is no such name."""

    folder: int
    name: str
    node: int | None


@dataclass(frozen=True)
class Exchange:
    """Two names, each in a folder, lead to what the other one led to."""

    one: tuple[int, str]
    other: tuple[int, str]


@dataclass(frozen=True)
class Flush:
    """A file, or the entries of a folder, are on the disk; None: everything is."""

    node: int | None


@dataclass
class Disk:
    """Data of files and entries of folders, by number. A file without data is empty."""

    data: dict[int, bytes] = field(default_factory=dict)
    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {TOP: {}})

    def apply(self, change: Data | Entry | Exchange) -> None:
        match change:
            case Data(file, data):
                self.data[file] = data
            case Entry(folder, name, None):
                self.folders[folder].pop(name, None)
            case Entry(folder, name, node):
                self.folders[folder][name] = node
            case Exchange((one, one_name), (other, other_name)):
                first, second = self.folders[one], self.folders[other]
                if one_name in first and other_name in second:
                    first[one_name], second[other_name] = second[other_name], first[one_name]

    def find(self, path: Path) -> int | None:
        """The number of what stands at a path below the top; None: nothing does."""
        node: int | None = TOP
        for part in path.parts:
            node = self.folders.get(node, {}).get(part)
        return node

    def contents(self, node: int = TOP, path: str = "") -> Iterator[tuple[str, bytes]]:
        """All files below a number with their data, and folders with none, in a fixed order."""
        for name, inner in sorted(self.folders[node].items()):
            if inner in self.folders:
                yield f"{path}{name}/", b""
                yield from self.contents(inner, f"{path}{name}/")
            else:
                yield f"{path}{name}", self.data.get(inner, b"")

    def write(self, folder: Path, node: int = TOP) -> None:
        """Make all that is below a number in a new folder."""
        folder.mkdir()
        for name, inner in self.folders[node].items():
            if inner in self.folders:
                self.write(folder / name, inner)
            else:
                (folder / name).write_bytes(self.data.get(inner, b""))


@dataclass
class Recording:
    """What was asked of the disk below a folder, in order.

    Attributes:
        root: the folder.
        steps: what was asked.
        first: how many of the first steps made what was there at first, all of it on the disk.
    """

    root: Path
    steps: list[Data | Entry | Exchange | Flush] = field(default_factory=list)
    first: int = 0
    _disk: Disk = field(default_factory=Disk)
    _lock: Any = field(default_factory=RLock)
    _numbers: Iterator[int] = field(default_factory=lambda: count(TOP + 1))

    @classmethod
    def begin(cls, root: Path) -> "Recording":
        """Begin with a folder as it is."""
        root.mkdir(exist_ok=True)
        recording = cls(root.resolve())
        recording.look_around()
        recording.note(Flush(None))
        return replace(recording, first=len(recording.steps))

    def __len__(self) -> int:
        """The number of steps since the recording began."""
        return len(self.steps) - self.first

    def cut(self, after: int, chance: random.Random, honest: bool = True) -> Disk:
        """What a power cut after so many steps may leave.

        Args:
            after: how many.
            chance: decides what the disk has of what was not flushed.
            honest: whether the disk flushes when it is asked to.
        """
        disk = Disk(folders={number: {} for number in self._disk.folders})
        waiting: list[Data | Entry | Exchange] = []
        for number, step in enumerate(self.steps[: self.first + after]):
            if not isinstance(step, Flush):
                waiting.append(step)
                continue
            if not (honest or number < self.first):
                continue
            left = []
            for change in waiting:
                if step.node is None or step.node in _numbers_of(change):
                    disk.apply(change)
                else:
                    left.append(change)
            waiting = left
        share = chance.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        for change in waiting:
            if chance.random() < share:
                disk.apply(_torn(change, chance) if isinstance(change, Data) else change)
        return disk

    def look_around(self) -> int:
        """Note what has changed without a call that is recorded; return how much that was."""
        before = len(self.steps)
        self._look_at(self.root, TOP)
        return len(self.steps) - before

    def note(self, step: Data | Entry | Exchange | Flush) -> None:
        if not isinstance(step, Flush):
            self._disk.apply(step)
        self.steps.append(step)

    def _look_at(self, path: Path, number: int) -> None:
        entries = {entry.name: entry for entry in os.scandir(path)}
        for name in self._disk.folders[number].keys() - entries.keys():
            self.note(Entry(number, name, None))
        for name, entry in sorted(entries.items()):
            is_folder = entry.is_dir(follow_symlinks=False)
            if name not in self._disk.folders[number]:
                self._make(path / name, is_folder)
            if is_folder:
                self._look_at(path / name, self._disk.folders[number][name])
            else:
                self._note_data(path / name)

    def _make(self, path: Path, is_folder: bool = False) -> None:
        number = next(self._numbers)
        if is_folder:
            self._disk.folders[number] = {}
        self.note(Entry(*self._place(path), number))

    def _note_data(self, path: Path) -> None:
        number, data = self._find(path), path.read_bytes()
        if number is not None and self._disk.data.get(number, b"") != data:
            self.note(Data(number, data))

    def _find(self, path: Path) -> int | None:
        return self._disk.find(path.relative_to(self.root))

    def _place(self, path: Path) -> tuple[int, str]:
        folder = self._find(path.parent)
        assert folder is not None, path
        return folder, path.name

    def _is_below(self, path: Path) -> bool:
        return path != self.root and path.is_relative_to(self.root)

    # What is recorded. Each gets the function that does it, and then its arguments.

    def open(self, do: Callable, path: Any, flags: int, mode: int = 0o777, *, dir_fd=None) -> int:
        found = _path(path, dir_fd)
        is_new = flags & os.O_CREAT and self._is_below(found) and not found.exists()
        opened = do(path, flags, mode, dir_fd=dir_fd)
        if is_new:
            self._make(found)
        return opened

    def mkdir(self, do: Callable, path: Any, mode: int = 0o777, *, dir_fd=None) -> None:
        do(path, mode, dir_fd=dir_fd)
        if self._is_below(found := _path(path, dir_fd)):
            self._make(found, is_folder=True)

    def replace(
        self, do: Callable, source: Any, target: Any, *, src_dir_fd=None, dst_dir_fd=None
    ) -> None:
        old, new = _path(source, src_dir_fd), _path(target, dst_dir_fd)
        if self._is_below(old) and old.is_file():
            self._note_data(old)
        do(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        if self._is_below(old):
            number = self._find(old)
            self.note(Entry(*self._place(new), number))
            self.note(Entry(*self._place(old), None))

    def link(self, do: Callable, source: Any, target: Any, **how: Any) -> None:
        do(source, target, **how)
        old, new = _path(source), _path(target)
        if self._is_below(new):
            self.note(Entry(*self._place(new), self._find(old)))

    def unlink(self, do: Callable, path: Any, *, dir_fd=None) -> None:
        do(path, dir_fd=dir_fd)
        if self._is_below(found := _path(path, dir_fd)):
            self.note(Entry(*self._place(found), None))

    rmdir = unlink

    def pwrite(self, do: Callable, file: int, *arguments: Any) -> int:
        written = do(file, *arguments)
        if self._is_below(found := _path(file)):
            self._note_data(found)
        return written

    ftruncate = pwrite

    def fsync(self, do: Callable, file: int) -> None:
        found = _path(file)
        if self._is_below(found) and found.is_file():
            self._note_data(found)
        do(file)
        if found == self.root or self._is_below(found):
            self.note(Flush(self._find(found)))

    def sync_file_system(self, do: Callable, folder: int) -> None:
        self.look_around()
        do(folder)
        self.note(Flush(None))

    def exchange(self, do: Callable, one: str, other: str) -> None:
        self.look_around()
        do(one, other)
        self.note(Exchange(self._place(_path(one)), self._place(_path(other))))


@contextmanager
def recorded(root: Path) -> Iterator[Recording]:
    """As a context: what this process asks of the disk below a folder."""
    recording = Recording.begin(root)
    functions = (
        "open",
        "mkdir",
        "replace",
        "link",
        "unlink",
        "rmdir",
        "pwrite",
        "ftruncate",
        "fsync",
    )
    places = [(os, name, name) for name in functions]
    places += [(local, "exchange", "exchange"), (local, "_sync_file_system", "sync_file_system")]
    with pytest.MonkeyPatch.context() as patch:
        for module, name, method in places:
            record, do = getattr(recording, method), getattr(module, name)
            patch.setattr(module, name, _one_at_a_time(recording._lock, record, do))
        yield recording


def _one_at_a_time(lock: Any, record: Callable, do: Callable) -> Callable:
    def call(*arguments: Any, **named: Any) -> Any:
        with lock:
            return record(do, *arguments, **named)

    return call


def _path(path: Any, folder: int | None = None) -> Path:
    """The path that is meant by a path or a descriptor, and the descriptor of a folder."""
    if isinstance(path, int):
        return Path(os.readlink(f"/proc/self/fd/{path}"))
    parent = os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}")
    return Path(os.path.normpath(os.path.join(parent, os.fsdecode(path))))


def _numbers_of(change: Data | Entry | Exchange) -> tuple[int, ...]:
    """The files and folders whose flush puts a change on the disk."""
    match change:
        case Data(file, _):
            return (file,)
        case Entry(folder, _, _):
            return (folder,)
        case Exchange((one, _), (other, _)):
            return one, other


def _torn(change: Data, chance: random.Random) -> Data:
    """What may be there of data that was not flushed."""
    part = change.data[: chance.randrange(len(change.data) + 1)]
    return Data(change.file, chance.choice((change.data, part, bytes(len(change.data)), b"")))
