"""JSON files of any length: list items are written in parts and joined as streams. See RFC 8259."""

import json
import shutil
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO

SEPARATOR = b",\n"


def to_json(value: Any) -> str:
    """A value as JSON text; raises ValueError for NaN."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def items(values: Iterable[str]) -> bytes:
    """Items of a list, or members of an object, without the enclosing brackets."""
    return SEPARATOR.join(value.encode() for value in values)


def copy_items(target: BinaryIO, sources: Iterable[BinaryIO]) -> None:
    """Copy the output of `items` from one source after another; a source may be empty."""
    separator = b""
    for source in sources:
        if start := source.read(1):
            target.write(separator + start)
            shutil.copyfileobj(source, target)
            separator = SEPARATOR


def write_object(
    target: BinaryIO, members: dict[str, Any], lists: dict[str, Iterable[BinaryIO]]
) -> None:
    """Write an object: its members, at least one, then lists of copied items."""
    target.write(to_json(members).removesuffix("}").encode())
    for name, sources in lists.items():
        target.write(f",\n{to_json(name)}: [\n".encode())
        copy_items(target, sources)
        target.write(b"\n]")
    target.write(b"}\n")


def read_items(sources: Iterable[BinaryIO]) -> Iterator[Any]:
    """The values that `items` encoded."""
    for line in chain.from_iterable(sources):
        yield json.loads(line.rstrip(SEPARATOR))
