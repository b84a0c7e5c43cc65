"""Reading: the encoded bytes of an image, from its own file or from a shard."""

from transforms import storage
from transforms.flow.records import ImageRef
from transforms.inputs import members, shards


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
