"""Reading: the encoded bytes of an image, from its own file or from a shard."""

from collections.abc import Iterator
from contextlib import contextmanager

from transforms import storage
from transforms.flow.records import ImageRef
from transforms.inputs import members, shards
from transforms.photos.memory import Memory

LARGE_BYTES = 16 << 20
"""Photos of more bytes are large; of others many can be in memory at a time."""

LARGE_AT_ONCE = 256 << 20
"""Bytes of large photos that the threads of a process hold at a time. A larger one is alone."""

_large = Memory(LARGE_AT_ONCE)


def read_image(ref: ImageRef, version: str = "") -> bytes:
    """The encoded bytes of an image, from its own file or from its byte range in a shard.

    Args:
        ref: the image.
        version: the version that its file must have, as it was listed; empty: any.

    Raises:
        StorageError: the file cannot be read, is of another version or cut short.
        ShardError: the member is damaged.
    """
    if ref.trouble:
        raise storage.StorageError(ref.trouble)
    if ref.damage:
        raise members.ShardError(ref.damage)
    data = storage.read(ref.path, ref.offset, ref.length, version)
    return shards.format_named(ref.container).extract(data, ref.offset) if ref.container else data


def is_large(ref: ImageRef) -> bool:
    """Whether reading an image takes much memory, so that it should not wait in a queue."""
    return ref.bytes_to_read > LARGE_BYTES and not (ref.damage or ref.trouble)


@contextmanager
def room_for(ref: ImageRef) -> Iterator[None]:
    """Context manager: to hold the bytes of an image; waits where other large ones are held.

    A thread holds one image at a time.
    """
    if is_large(ref):
        with _large.reserved(ref.bytes_to_read):
            yield
    else:
        yield
