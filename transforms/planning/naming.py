"""Naming: which name in the output folder belongs to which image."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from transforms.flow.records import ImageRef
from transforms.output import names, rows
from transforms.output.begun import LeftOver
from transforms.output.findings import Finding


def _named(
    by_source: dict[str, ImageRef], standing: dict[str, rows.CommittedRow], fold_case: bool
) -> Iterator[ImageRef]:
    """The images with the names they have in the output folder, each name once."""

    def place(image: str) -> str:
        return names.folded(image) if fold_case else image

    owners = {place(image): row for image, row in standing.items()}
    own_names = _own_names(by_source, standing)
    taken: set[str] = set()

    def is_free(image: str, ref: ImageRef) -> bool:
        owner = owners.get(place(image))
        return place(image) not in taken and (not owner or _same_image(owner, image, ref))

    for source, ref in sorted(
        by_source.items(), key=lambda item: (item[0] not in own_names, item[0])
    ):
        image, number = own_names.get(source, ref.image), 0
        while not is_free(image, ref):
            # Even a name with a hash may be taken: an image may be called so from the first.
            image = names.distinct_name(ref.image, source + "~" * number)
            number += 1
        taken.add(place(image))
        yield replace(ref, image=image)


def _own_names(
    by_source: dict[str, ImageRef], standing: dict[str, rows.CommittedRow]
) -> dict[str, str]:
    """The names of the images that certainly have a row, by source.

    A row holds the URI of its image. If members of a shard share a URI, only the hash in a name
    says which of them it belongs to.
    """
    refs_of_uri = Counter(ref.uri for ref in by_source.values())
    rows_of_uri = Counter(row.uri for row in standing.values())
    only_row = {row.uri: row.image for row in standing.values()}
    own_names = {}
    for source, ref in by_source.items():
        if ref.uri not in rows_of_uri:
            continue
        distinct = standing.get(names.distinct_name(ref.image, source))
        if distinct and distinct.uri == ref.uri:
            own_names[source] = distinct.image
        elif refs_of_uri[ref.uri] == rows_of_uri[ref.uri] == 1:
            own_names[source] = only_row[ref.uri]
    return own_names


def _same_image(row: rows.CommittedRow, image: str, ref: ImageRef) -> bool:
    """Whether a row is of this image: the same URI, or unchanged at another place."""
    return row.image == image and (row.uri == ref.uri or row.version == ref.version)


def shared_name(
    item: ImageRef | rows.CommittedRow | rows.PastFailure | rows.PastAside | Finding | LeftOver,
) -> str:
    """The key by which images are joined: their names without case and distinguishing hashes.

    Case is folded first: on a file system that ignores case, a hash may be in capitals.
    """
    return names.base_name(names.folded(item.image))
