"""Members: the images in a shard, and the interface of a shard format."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

_SIGNATURES = {
    b"\x1f\x8b": "gzip data",
    b"BZh": "bzip2 data",
    b"\xfd7zXZ\0": "xz data",
    b"\x28\xb5\x2f\xfd": "Zstandard data",
    b"\x04\x22\x4d\x18": "LZ4 data",
    b"\x78\x01": "zlib data",
    b"\x78\x9c": "zlib data",
    b"\x78\xda": "zlib data",
    b"PK\x03\x04": "a ZIP archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
}
"""What files begin with. The signatures are those of the formats' specifications."""


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
        passed_over: why it is no image, if that is not only by its name.
    """

    name: str
    offset: int
    length: int
    metadata: dict[str, Any] = field(default_factory=dict)
    damage: str = ""
    passed_over: str = ""


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

    def glance(self, path: str) -> Iterator[Member]:
        """Members as they come, to see whether there are any, if `members` takes much longer.

        What takes the whole shard to know may be missing: metadata, and what is passed over.

        Raises:
            StorageError: the shard cannot be read.
        """
        return self.members(path)

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
    """The members; a name that an earlier one has gets `@offset` before its extension.

    If there is that one as well, such as by two links to one file, a number follows: `@offset-2`.
    """
    seen: set[str] = set()
    numbers: Counter[str] = Counter()
    for member in members:
        name = member.name
        if name in seen:
            stem, extension = os.path.splitext(name)
            stem = f"{stem}@{member.offset}"
            name = f"{stem}{extension}"
            while name in seen:
                numbers[stem] += 1
                name = f"{stem}-{numbers[stem] + 1}{extension}"
        seen.add(name)
        yield replace(member, name=name)


def packed_as(file: BinaryIO) -> str:
    """What a file is by its first bytes if it is compressed or an archive of another kind.

    Empty if it is not. The file is then at its start.
    """
    file.seek(0)
    start = file.read(max(map(len, _SIGNATURES)))
    file.seek(0)
    return next((name for begins, name in _SIGNATURES.items() if start.startswith(begins)), "")
