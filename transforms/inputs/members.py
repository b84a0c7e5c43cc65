"""Members: what an index of a shard says of each image in it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any


class ShardError(Exception):
    """A shard member is damaged; the message says at which byte and how."""


@dataclass(frozen=True)
class Member:
    """One member of a shard.

    Attributes:
        name: its path inside the shard; `@offset` where it has none, and before the extension of
            one that the shard has already.
        offset: first byte of its data in the shard.
        length: bytes of its data; for a TFRecord with the checksum behind it.
        metadata: values from `key.json` or from the Example's own features.
        damage: why it cannot be read, if the index already shows it.
    """

    name: str
    offset: int
    length: int
    metadata: dict[str, Any] = field(default_factory=dict)
    damage: str = ""


def _with_names_of_their_own(members: Iterator[Member]) -> Iterator[Member]:
    """The members, with their offset in a name that an earlier one has, so that none is lost."""
    seen: set[str] = set()
    for member in members:
        name = member.name
        while name in seen:
            stem, extension = os.path.splitext(name)
            name = f"{stem}@{member.offset}{extension}"
        seen.add(name)
        yield replace(member, name=name)
