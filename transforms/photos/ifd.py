"""Tags of a TIFF file or an EXIF block, each on its own: a damaged tag costs that tag only.

Sources: TIFF 6.0 (Adobe, 1992), section 2; BigTIFF (https://www.awaresystems.be/imaging/tiff/bigtiff.html);
EXIF 2.32, section 4.6.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from PIL import ExifTags

CLASSIC, BIG = 42, 43
"""Versions in the header of a TIFF."""

_TYPES = {
    **{1: "B", 2: "s", 3: "H", 4: "I", 5: "2I", 6: "b", 7: "s", 8: "h", 9: "i", 10: "2i"},
    **{11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"},
}
"""Codes of the field types, as formats of `struct`."""

_TEXTS = (2, 7)
_RATIONALS = (5, 10)

_POINTERS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
"""Tags that hold the position of another directory."""

Value = bytes | tuple[Any, ...]


class TagError(ValueError):
    """There is no directory of tags; the message says what was found."""


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    field: int
    """Position of the entry itself."""
    at: int
    """Position of its values."""


@dataclass(frozen=True)
class Header:
    """The header of a TIFF or an EXIF block.

    Attributes:
        order: byte order, `<` or `>`.
        big: whether it is a BigTIFF.
        first: position of the first directory.
    """

    order: str
    big: bool
    first: int


@dataclass(frozen=True, eq=False)
class Directory:
    """The tags of one image.

    Attributes:
        data: the file or block.
        order: byte order, `<` or `>`.
        at: its position.
        next: position of the next directory; 0: none.
        damaged: positions of the entries without a value.
    """

    data: bytes
    order: str
    at: int
    next: int = 0
    damaged: tuple[int, ...] = ()
    _entries: dict[int, _Entry] = field(default_factory=dict, repr=False)

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def value(self, tag: int) -> Value:
        """The values of a tag: bytes, or a tuple of numbers; empty without the tag.

        Rationals are fractions; one with the denominator 0 is None.
        """
        if tag not in self._entries:
            return ()
        entry = self._entries[tag]
        if entry.kind in _TEXTS:
            return self.bytes_of(tag)
        code = _TYPES[entry.kind]
        values = struct.unpack_from(
            f"{self.order}{int(code[:-1] or 1) * entry.count}{code[-1]}", self.data, entry.at
        )
        if entry.kind in _RATIONALS:
            pairs = zip(values[::2], values[1::2], strict=True)
            return tuple(Fraction(above, below) if below else None for above, below in pairs)
        return values

    def bytes_of(self, tag: int) -> bytes:
        """The values of a tag as they are in the file."""
        if tag not in self._entries:
            return b""
        entry = self._entries[tag]
        return self.data[entry.at : entry.at + entry.count * _size(entry.kind)]

    def integers(self, tag: int) -> tuple[int, ...]:
        """The values of a tag that are whole numbers; empty if any is not."""
        values = self.value(tag)
        if any(
            value is None or value != value or abs(value) > 1 << 64 or value != int(value)
            for value in values
        ):
            return ()
        return tuple(int(value) for value in values)

    def number(self, tag: int, default: int) -> int:
        """The first value of a tag; `default` without one."""
        return next(iter(self.integers(tag)), default)


def read_header(data: bytes) -> Header:
    """Read the first bytes; raises TagError."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        raise TagError(f"no TIFF header: {data[:8]!r}")
    version, first = struct.unpack_from(order + "HI", data, 2)
    if version == BIG and len(data) >= 16:
        return Header(order, True, struct.unpack_from(order + "Q", data, 8)[0])
    if version != CLASSIC:
        raise TagError(f"no TIFF header: {data[:8]!r}")
    return Header(order, False, first)


def read_directory(data: bytes, header: Header, at: int) -> Directory:
    """Read the directory at a position; raises TagError."""
    count_code, entry_code, next_code = ("Q", "HHQ", "Q") if header.big else ("H", "HHI", "I")
    inline = struct.calcsize("<" + next_code)
    size = struct.calcsize("<" + entry_code) + inline
    start = at + struct.calcsize("<" + count_code)
    if at <= 0 or start > len(data):
        raise TagError(f"no directory of tags at byte {at} of {len(data)}")
    count = min(
        struct.unpack_from(header.order + count_code, data, at)[0], (len(data) - start) // size
    )
    entries: dict[int, _Entry] = {}
    damaged = []
    for position in range(start, start + count * size, size):
        tag, kind, number = struct.unpack_from(header.order + entry_code, data, position)
        values = position + size - inline
        length = number * _size(kind)
        if length > inline:
            (values,) = struct.unpack_from(header.order + next_code, data, values)
        if not 0 < length <= len(data) - values:
            damaged.append(position)
        else:
            entries.setdefault(tag, _Entry(kind, number, position, values))
    end = start + count * size
    following = (
        struct.unpack_from(header.order + next_code, data, end)[0]
        if (end + inline <= len(data))
        else 0
    )
    return Directory(data, header.order, at, following, tuple(damaged), entries)


def directories(data: bytes, header: Header, at: int, limit: int) -> Iterator[Directory]:
    """At most `limit` directories from a position on; a chain that is damaged or closed ends."""
    seen: set[int] = set()
    while at and at not in seen and len(seen) < limit:
        seen.add(at)
        try:
            directory = read_directory(data, header, at)
        except TagError:
            return
        yield directory
        at = directory.next


def without_damage(data: bytes, header: Header, at: int) -> bytes:
    """The same bytes with the damaged tags of a directory and of its EXIF and GPS voided.

    A tag is voided by the field type 0, which readers skip.
    """
    try:
        main = read_directory(data, header, at)
    except TagError:
        return data
    voided = list(main.damaged)
    for tag in _POINTERS:
        if tag in main:
            try:
                (position,) = main.integers(tag)
                voided += read_directory(data, header, position).damaged
            except (TagError, ValueError):
                voided.append(main._entries[tag].field)
    if not voided:
        return data
    sound = bytearray(data)
    for position in voided:
        sound[position + 2 : position + 4] = bytes(2)
    return bytes(sound)


def _size(kind: int) -> int:
    """Bytes of a value of a field type; 0 for an unknown one."""
    return struct.calcsize("<" + _TYPES[kind]) if kind in _TYPES else 0
