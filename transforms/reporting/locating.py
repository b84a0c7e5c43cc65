"""Locating: finds the photo of a row by its `uri`, inside a shard as well."""

from collections.abc import Iterable, Iterator

from transforms import storage
from transforms.flow.records import ImageRef
from transforms.inputs import listing, shards
from transforms.inputs.listing import ListedFile
from transforms.output import names

_MEMBER = "#"
"""Between a shard and the name of its member."""


def container_of(uri: str) -> str:
    """The file that holds the photo of a row: the photo's own, or its shard.

    A `#` may be part of any name; the file that is there decides.
    """
    if _MEMBER not in uri or storage.exists(names.file_of(uri)):
        return uri
    position = uri.find(_MEMBER)
    while position >= 0:
        if shards.format_of(uri[:position]) and storage.exists(names.file_of(uri[:position])):
            return uri[:position]
        position = uri.find(_MEMBER, position + 1)
    return uri


def locate(container: str, uris: Iterable[str]) -> Iterator[ImageRef]:
    """Where photos are in the file that holds them; those that are not in a shard are left out.

    A photo's own file is not looked at: whether it is there shows when it is read.

    Args:
        container: as `container_of` gave it.
        uris: of its photos.

    Raises:
        StorageError: the shard cannot be read.
    """
    wanted = set(uris)
    is_shard = shards.format_of(container)
    path = names.file_of(container)
    file = storage.find(path) if is_shard else storage.FoundFile(path, -1, 0)
    for item in listing.list_members(ListedFile(file, container)):
        if isinstance(item, ImageRef) and item.uri in wanted:
            yield item
