"""Tar shards: an index of members by byte range, robust to damage.

They follow the WebDataset convention: `key.jpg` and, anywhere in the shard, `key.json` with
metadata. Indexing reads headers and metadata only; a damaged member costs only itself.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, BinaryIO

from transforms import storage
from transforms.inputs.members import Member, ShardFormat, packed_as, with_unique_names
from transforms.inputs.samples import find_labels, pair_sidecars
from transforms.inputs.tar_headers import Entry, Kind, read_entries, starts_with_header
from transforms.inputs.tar_links import resolve_links
from transforms.photos import decoding

EXTENSION = ".tar"
PACKED_EXTENSIONS = (
    *(".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4", ".tar.lz", ".tar.z"),
    *(".tgz", ".tbz", ".tbz2", ".txz", ".tzst"),
)

MAX_SIDECAR_BYTES = 1 << 20
MAX_SIDECAR_KEYS = 1000
"""Larger metadata of a photo are not taken."""

LAST_SIDECARS = 16
"""Metadata that are kept because further photos may share them."""

LABEL = "label of a photo"
FOLDER = "folder"
NO_OBJECT = "metadata that are no JSON object"
TOO_LARGE = f"metadata of more than {MAX_SIDECAR_BYTES} bytes or {MAX_SIDECAR_KEYS} keys"
UNREADABLE = "metadata that cannot be read"
"""Why members are passed over."""


class TarFormat(ShardFormat):
    """Uncompressed tar files. A member's byte range is that of the file in the tar."""

    name = "tar"
    extension = EXTENSION
    only_images = False

    def matches(self, path: str) -> bool:
        """See `ShardFormat.matches`."""
        return path.lower().endswith(EXTENSION)

    def refusal(self, path: str) -> str:
        """See `ShardFormat.refusal`."""
        if path.lower().endswith(PACKED_EXTENSIONS):
            return (
                "members of a compressed tar cannot be read by byte range; unpack it to a plain "
                ".tar, such as with `gunzip`, or to a folder"
            )
        return ""

    def members(self, path: str) -> Iterator[Member]:
        """Index a tar shard: its files, with the metadata of their `key.json`.

        A link to a file of the tar is that file. `.json` members that are the metadata of a photo
        are not yielded themselves. Damaged headers and a cut-off end are yielded as members with
        `damage`.

        Raises:
            StorageError: the shard cannot be read.
        """
        yield from with_unique_names(_members(path))

    def glance(self, path: str) -> Iterator[Member]:
        """See `ShardFormat.glance`."""
        with storage.open_file(path) as file:
            for entry in read_entries(file, file.seek(0, os.SEEK_END)):
                if entry.kind is not Kind.FOLDER:
                    yield _member(entry, is_label=False)


def _members(path: str) -> Iterator[Member]:
    with storage.open_file(path) as file:
        size = file.seek(0, os.SEEK_END)
        if not starts_with_header(file) and (packing := packed_as(file)):
            damage = f"{packing}, not a plain tar: members are read by byte range, so unpack it"
            yield Member("@0", 0, size, damage=damage)
            return
        entries = resolve_links(list(read_entries(file, size)))
        files = [entry for entry in entries if entry.kind is not Kind.FOLDER or _is_image(entry)]
        yield from _with_metadata(file, files)


def _with_metadata(file: BinaryIO, files: Sequence[Entry]) -> Iterator[Member]:
    """The members with their metadata; metadata that could not be taken are passed over."""
    names = [entry.name for entry in files]
    sidecars, labels = pair_sidecars(names), find_labels(names)
    used, told = set(sidecars.values()), set[int]()
    read = lru_cache(LAST_SIDECARS)(lambda position: _read_sidecar(file, files[position]))
    for position, entry in enumerate(files):
        if position in used:
            continue
        member = _member(entry, is_label=position in labels)
        if position not in sidecars or member.passed_over:
            yield member
            continue
        sidecar = sidecars[position]
        metadata, trouble = read(sidecar)
        yield replace(member, metadata=metadata)
        if trouble and sidecar not in told:
            told.add(sidecar)
            yield Member(files[sidecar].name, files[sidecar].offset, 0, passed_over=trouble)


def _member(entry: Entry, is_label: bool) -> Member:
    damage, passed_over = entry.damage, ""
    if entry.kind is Kind.FOLDER:
        passed_over = FOLDER
    elif is_label:
        passed_over = LABEL
    elif entry.kind is Kind.SPECIAL:
        damage = "neither a file nor a link to one"
    if not (_is_image(entry) or entry.is_break):
        damage = ""  # It would be passed over anyway.
    return Member(entry.name, entry.offset, entry.length, damage=damage, passed_over=passed_over)


def _is_image(entry: Entry) -> bool:
    return decoding.is_image_name(entry.name)


def _read_sidecar(file: BinaryIO, sidecar: Entry) -> tuple[dict[str, Any], str]:
    """The values of a `key.json`; none, and why, if they cannot be taken."""
    if sidecar.damage or sidecar.kind is not Kind.FILE:
        return {}, UNREADABLE
    if sidecar.length > MAX_SIDECAR_BYTES:
        return {}, TOO_LARGE
    file.seek(sidecar.offset)
    try:
        metadata = json.loads(file.read(sidecar.length))
    except (ValueError, RecursionError):
        return {}, NO_OBJECT
    if not isinstance(metadata, dict):
        return {}, NO_OBJECT
    return (metadata, "") if len(metadata) <= MAX_SIDECAR_KEYS else ({}, TOO_LARGE)
