"""Members: the images in a shard, and the interface of a shard format."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any


class ShardError(Exception):
    """A shard member is damaged; the message says at which byte and how."""


@dataclass(frozen=True)
class Member:
    """One member of a shard.

    Attributes:
        name: its path inside the shard, unique there (see `with_unique_names`); `@offset` if it has
            none.
        offset: first byte of its data in the shard.
        length: bytes of its data, as `ShardFormat.extract` takes them.
        metadata: what the shard says of the image, by name; a manifest has the same as columns.
        damage: why it cannot be read, if the index already shows it.
    """

    name: str
    offset: int
    length: int
    metadata: dict[str, Any] = field(default_factory=dict)
    damage: str = ""


class ShardFormat(ABC):
    """A kind of file that holds many images, each in a byte range. `shards` registers them.

    Attributes:
        name: unique and short: every `ImageRef` to a member carries it.
        extension: the usual extension, for messages, as `.tar`.
        only_images: whether every member is an image whatever its name; else members whose names
            do not end in an image extension are ignored.
    """

    name: str
    extension: str
    only_images: bool

    @abstractmethod
    def matches(self, path: str) -> bool:
        """Whether a file is of this format, by its name."""

    def refusal(self, path: str) -> str:
        """Why a file whose name does not match cannot be read although it looks like a shard.

        Empty if it does not look like one.
        """
        return ""

    @abstractmethod
    def members(self, path: str) -> Iterator[Member]:
        """Index a shard: its members with unique names, and its damaged parts with `damage`.

        The images themselves are not read here but later, each by its byte range, so that several
        workers can share a shard.

        Raises:
            StorageError: the shard cannot be read.
        """

    def extract(self, data: bytes, offset: int) -> bytes:
        """The encoded image in the byte range of a member.

        Args:
            data: the bytes from `offset`, `Member.length` of them.
            offset: where `data` starts in the shard, for messages.

        Raises:
            ShardError: the member is damaged.
        """
        return data


def with_unique_names(members: Iterator[Member]) -> Iterator[Member]:
    """The members; a name that an earlier one has gets `@offset` before its extension."""
    seen: set[str] = set()
    for member in members:
        name = member.name
        while name in seen:
            stem, extension = os.path.splitext(name)
            name = f"{stem}@{member.offset}{extension}"
        seen.add(name)
        yield replace(member, name=name)
