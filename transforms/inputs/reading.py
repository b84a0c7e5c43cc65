"""Reading: the encoded bytes of an image, out of its file or its shard."""

from transforms import storage
from transforms.flow.records import Container, ImageRef
from transforms.inputs import members, tfrecord_shards


def read_image(ref: ImageRef, version: str = "") -> bytes:
    """The encoded bytes of an image, out of its file or by its byte range in a shard.

    Args:
        ref: the image.
        version: of which its file has to be, as it was listed; empty: of any.

    Raises:
        StorageError: the file cannot be read, is of another version or cut short.
        ShardError: the member is damaged.
    """
    if ref.damage:
        raise members.ShardError(ref.damage)
    if ref.container is Container.TFRECORD:
        data = storage.read(ref.path, ref.offset, ref.length, version)
        return tfrecord_shards.read_tfrecord_image(data, ref.offset)
    return storage.read(ref.path, ref.offset, ref.length, version)
