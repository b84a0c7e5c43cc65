"""Parts of protobuf messages, without memory for what they hold.

A parsed message takes tens of times the memory of its bytes if it has many small parts. What only
looks at a few of its fields does without.

The wire format: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

MAX_FIELDS = 1 << 20
"""Most fields of one message."""

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
"""Types of fields on the wire."""


def parts(message: memoryview, *path: int) -> Iterator[memoryview]:
    """Find the messages, texts or bytes at a path of field numbers.

    Raises:
        ValueError: something on the path is no protobuf, cut short, or has more than `MAX_FIELDS`.
    """
    if not path:
        yield message
        return
    number, *rest = path
    for found, content in _fields(message):
        if found == number:
            yield from parts(content, *rest)


def texts(message: memoryview, *path: int) -> list[str]:
    """The texts at a path, see `parts`."""
    return [str(part, "utf-8", "replace") for part in parts(message, *path)]


def check_parts(message: memoryview, kind: "Descriptor", most: int) -> None:
    """Check that a message can be parsed in little memory.

    Args:
        message: what is to be parsed.
        kind: what it is.
        most: messages, texts and others with a length that may be in it, at any depth.

    Raises:
        ValueError: there are more, or it is no protobuf or cut short.
    """
    found = 0
    open_messages = [(_fields(message), kind)]
    while open_messages:
        fields, kind = open_messages[-1]
        number, content = next(fields, (0, None))
        if content is None:
            open_messages.pop()
            continue
        found += 1
        if found > most:
            raise ValueError(f"more than {most} parts")
        field = kind.fields_by_number.get(number)
        if field and field.message_type:
            open_messages.append((_fields(content), field.message_type))


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field that has a length."""
    place = 0
    for _ in range(MAX_FIELDS):
        if place == len(message):
            return
        key, place = _varint(message, place)
        kind, size = key & 7, 0
        if kind == _LENGTH:
            size, place = _varint(message, place)
        elif kind == _VARINT:
            _, place = _varint(message, place)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of the type {kind}")
        if size > len(message) - place:
            raise ValueError(f"a field of {size} bytes, of which {len(message) - place} are there")
        if kind == _LENGTH:
            yield key >> 3, message[place : place + size]
        place += size
    raise ValueError(f"more than {MAX_FIELDS} fields")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of up to 64 bits, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place == len(message):
            raise ValueError("cut short")
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number of more than 64 bits")
