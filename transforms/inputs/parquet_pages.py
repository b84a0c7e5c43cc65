"""Pages: what the pages of a Parquet file say they unpack to, before memory is taken for them.

The file's metadata, which come first, may say something else. A page begins with a header in
Thrift's compact protocol (https://parquet.apache.org/docs/file-format/data-pages).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

UNPACKED, PACKED = 2, 3
"""Fields of a header: bytes of the page, and of its data behind the header."""

KINDS = DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_2 = 5, 7, 8
"""Fields of a header: what a data page, a dictionary page and a data page of version 2 hold."""

VALUES = 1
"""The field of each of these that counts their values."""

ENCODING = {DATA_PAGE: 2, DATA_PAGE_2: 4}
"""The field of the data pages that says how they are encoded."""

DICTIONARY = "RLE_DICTIONARY"
SHARED_PREFIXES = "DELTA_BYTE_ARRAY"
LENGTHS = "DELTA_LENGTH_BYTE_ARRAY"
ENCODINGS = {2: DICTIONARY, 8: DICTIONARY, 6: LENGTHS, 7: SHARED_PREFIXES}
"""Encodings of text by their numbers, but for plain ones; 2 is the older number of 8."""

_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _MAP, _STRUCT = (
    1, 2, 3, (4, 5, 6), 7, 8, (9, 10), 11, 12
)  # fmt: skip
_LONG = 15
"""The length of a list that stands in the number behind."""


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        unpacked: its bytes.
        values: how many values it holds, those of lists each.
        encoding: one of `ENCODINGS`, else empty.
    """

    unpacked: int
    values: int
    encoding: str


def read_pages(data: bytes, start: int, end: int) -> Iterator[Page]:
    """The pages that begin from `start` to before `end`.

    Raises:
        IndexError: a header is cut off.
        ValueError: a header says what cannot be.
    """
    if start < 0:
        raise ValueError(f"pages at byte {start}")
    while start < end:
        reader = _Reader(data, start)
        header = reader.struct()
        kind = next((kind for kind in KINDS if isinstance(header.get(kind), dict)), 0)
        held = header.get(kind) or {}
        said = (header.get(UNPACKED), header.get(PACKED), held.get(VALUES))
        numbers = [number for number in said if isinstance(number, int) and number >= 0]
        if len(numbers) < len(said):
            raise ValueError(f"no page at byte {start}")
        unpacked, packed, values = numbers
        number = held.get(ENCODING.get(kind, 0))  # That of a dictionary itself does not matter.
        encoding = ENCODINGS.get(number or 0, "")
        yield Page(unpacked, values, encoding)
        start = reader.position + packed


class _Reader:
    """Reads what Thrift's compact protocol wrote.

    Attributes:
        position: the next byte.
    """

    def __init__(self, data: bytes, position: int):
        self._data = data
        self.position = position

    def struct(self) -> dict[int, Any]:
        """The fields of a struct by number; None for those that are no integers or structs."""
        fields: dict[int, Any] = {}
        number = 0
        while header := self._byte():
            step, kind = header >> 4, header & 15
            number = number + step if step else self._integer()
            fields[number] = None if kind in (_TRUE, _FALSE) else self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in _INTEGERS:
            return self._integer()
        if kind == _STRUCT:
            return self.struct()
        if kind in (_TRUE, _FALSE, _BYTE):  # As an element, a truth value takes a byte.
            self._byte()
        elif kind == _DOUBLE:
            self.position += 8
        elif kind == _BINARY:
            length = self._number()
            self.position += length
        elif kind in _LISTS:
            header = self._byte()
            length = header >> 4
            for _ in range(self._number() if length == _LONG else length):
                self._value(header & 15)
        elif kind == _MAP and (length := self._number()):
            kinds = self._byte()
            for _ in range(length):
                self._value(kinds >> 4)
                self._value(kinds & 15)
        elif kind != _MAP:
            raise ValueError(f"type {kind} at byte {self.position}")
        return None

    def _integer(self) -> int:
        number = self._number()
        return (number >> 1) ^ -(number & 1)

    def _number(self) -> int:
        number = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise ValueError(f"too long a number before byte {self.position}")

    def _byte(self) -> int:
        byte = self._data[self.position]
        self.position += 1
        return byte
