"""FlatBuffers: tables of a file that nobody vouches for, read within the file's bounds.

A table states where its fields are, and each field where its content is, relative to where it
stands itself; see the internals of https://flatbuffers.dev. Nothing is copied but texts.
"""

import struct
from dataclasses import dataclass

import numpy as np

MAX_TEXT_BYTES = 1 << 12
"""Longest text, in bytes."""

MAX_TABLES = 1 << 15
"""Most tables in a vector."""

_OFFSET = "<I"


@dataclass(frozen=True)
class Table:
    """A table; its fields are numbered in the order of the schema, from 0.

    All methods raise ValueError if the table states something that is not in the file.

    Attributes:
        content: of the file.
        position: where the table begins, in bytes.
    """

    content: bytes
    position: int

    @classmethod
    def root(cls, content: bytes) -> "Table":
        """The table that holds all others."""
        return cls(content, _unpack(_OFFSET, content, 0))

    def number(self, field: int, kind: str = "<i") -> int | float:
        """A number by its `struct` format; 0 if it is not stated."""
        position = self._field(field)
        return 0 if position is None else _unpack(kind, self.content, position)

    def table(self, field: int) -> "Table | None":
        """A table; None if it is not stated."""
        position = self._target(field)
        return None if position is None else Table(self.content, position)

    def tables(self, field: int) -> list["Table"]:
        """A vector of tables; empty if it is not stated."""
        offsets = self.numbers(field, "<u4")
        if not len(offsets):
            return []
        if len(offsets) > MAX_TABLES:
            raise ValueError(f"a list has {len(offsets)} entries, at most {MAX_TABLES} are read")
        start = self._vector(field)[0]
        return [Table(self.content, start + 4 * n + int(at)) for n, at in enumerate(offsets)]

    def numbers(self, field: int, dtype: str) -> np.ndarray:
        """A vector of numbers, a view of the file; empty if it is not stated."""
        start, count = self._vector(field)
        size = np.dtype(dtype).itemsize
        if start + count * size > len(self.content):
            left = len(self.content) - start
            raise ValueError(f"a list of {count * size} bytes begins {left} bytes before the end")
        return np.frombuffer(self.content, dtype, count, start)

    def text(self, field: int) -> str:
        """A text; empty if it is not stated."""
        values = self.numbers(field, "u1")
        if len(values) > MAX_TEXT_BYTES:
            raise ValueError(f"a text has {len(values)} bytes, at most {MAX_TEXT_BYTES} are read")
        return values.tobytes().decode(errors="replace")

    def _field(self, field: int) -> int | None:
        """Where a field stands."""
        fields = self.position - _unpack("<i", self.content, self.position)
        entry = 4 + 2 * field
        if entry + 2 > _unpack("<H", self.content, fields):
            return None
        offset = _unpack("<H", self.content, fields + entry)
        return self.position + offset if offset else None

    def _target(self, field: int) -> int | None:
        """Where the content of a field stands that states an offset."""
        position = self._field(field)
        return None if position is None else position + _unpack(_OFFSET, self.content, position)

    def _vector(self, field: int) -> tuple[int, int]:
        """Where the entries of a vector begin, and their number."""
        position = self._target(field)
        if position is None:
            return 0, 0
        return position + 4, _unpack(_OFFSET, self.content, position)


def _unpack(kind: str, content: bytes, position: int):
    if not 0 <= position <= len(content) - struct.calcsize(kind):
        raise ValueError(f"it refers to byte {position} and has {len(content)} bytes")
    return struct.unpack_from(kind, content, position)[0]
