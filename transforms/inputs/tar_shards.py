"""Tar shards: an index of members by byte range, robust to damage.

They follow the WebDataset convention: `key.jpg` and, beside it, `key.json` with metadata. Indexing
reads headers and metadata only; a damaged member costs only itself.
"""

import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any, BinaryIO

from transforms import storage
from transforms.inputs.members import Member, ShardFormat, with_unique_names

EXTENSION = ".tar"
COMPRESSED_EXTENSIONS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

TAR_BLOCK = 512


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
        if path.lower().endswith(COMPRESSED_EXTENSIONS):
            return "members of a compressed tar cannot be read by byte range; decompress it"
        return ""

    def members(self, path: str) -> Iterator[Member]:
        """Index a tar shard: its files, with the metadata of their `key.json`.

        `.json` members that are the metadata of another member are not yielded themselves. Damaged
        headers and a cut-off end are yielded as members with `damage`.

        Raises:
            StorageError: the shard cannot be read.
        """
        yield from with_unique_names(_samples(path))


def _samples(path: str) -> Iterator[Member]:
    """Files of a tar with their metadata; a `.json` that belongs to none is a file like others."""
    entries = groupby(_tar_entries(path), key=lambda member: _webdataset_key(member.name))
    with storage.open_file(path) as file:
        for _, same_key in entries:
            members = list(same_key)
            sidecars = {m.name: _read_sidecar(file, m) for m in members if _is_json(m)}
            used = set()
            for member in members:
                if member.name in sidecars:
                    continue
                stem = os.path.splitext(member.name)[0]
                beside = (f"{stem}.json", f"{_webdataset_key(member.name)}.json")
                sidecar = next((name for name in beside if sidecars.get(name) is not None), "")
                used.add(sidecar)
                yield replace(member, metadata=sidecars.get(sidecar) or {})
            for member in members:
                if member.name in sidecars and member.name not in used:
                    yield replace(member, damage="")


def _tar_entries(path: str) -> Iterator[Member]:
    """Files of a tar in their order; unreadable parts between them are yielded as damage."""
    with storage.open_file(path) as file:
        size = file.seek(0, os.SEEK_END)
        expected = start = 0
        stored: dict[str, Member] = {}
        while start < size:
            file.seek(start)
            try:
                # ignore_zeros makes tarfile go on at the next valid header after a damaged one.
                with tarfile.open(fileobj=file, mode="r:", ignore_zeros=True) as archive:
                    for entry in archive:
                        if entry.offset < expected or archive.offset <= entry.offset:
                            raise tarfile.HeaderError("a header that points backwards")
                        yield from _gap(file, expected, entry.offset)
                        expected = archive.offset
                        if entry.isreg():
                            stored[entry.name] = member = _tar_member(entry, size)
                            yield member
                        elif entry.islnk() and entry.linkname in stored:
                            yield replace(stored[entry.linkname], name=entry.name)
                break
            except (tarfile.TarError, ValueError, OverflowError):
                # tarfile gives up at a damaged header that belongs to a long name before it.
                start = max(start, expected) + TAR_BLOCK
        yield from _gap(file, expected, size)


def _tar_member(entry: tarfile.TarInfo, size: int) -> Member:
    missing = entry.offset_data + entry.size - size
    damage = ""
    if entry.issparse():
        damage = f"stored as a sparse file at byte {entry.offset_data}; pack it without --sparse"
    elif missing > 0:
        damage = (
            f"cut short: {entry.size} bytes expected at byte {entry.offset_data}, "
            f"the tar ends {missing} bytes earlier"
        )
    return Member(entry.name, entry.offset_data, entry.size, damage=damage)


def _gap(file: BinaryIO, start: int, end: int) -> Iterator[Member]:
    """A damaged member if the bytes from `start` to `end` are neither padding nor a pax header.

    Only global pax headers lie between members: tarfile does not yield them.
    """
    here = file.tell()
    while start < end:
        file.seek(start)
        block = file.read(min(TAR_BLOCK, end - start))
        if global_header := _global_header_bytes(block):
            start += global_header
        elif block.strip(b"\0"):
            yield Member(f"@{start}", start, end - start, damage=f"no tar header at byte {start}")
            break
        else:
            start += TAR_BLOCK
    file.seek(here)


def _global_header_bytes(block: bytes) -> int:
    """Bytes of the global pax header that starts with `block`; 0 if it is none."""
    try:
        header = tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except tarfile.TarError:
        return 0
    if header.type != tarfile.XGLTYPE or header.size < 0:
        return 0
    return TAR_BLOCK + -(-header.size // TAR_BLOCK) * TAR_BLOCK


def _webdataset_key(name: str) -> str:
    """The path up to the first dot of the file name."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}" if folder else file.partition(".")[0]


def _is_json(member: Member) -> bool:
    return member.name.lower().endswith(".json")


def _read_sidecar(file: BinaryIO, sidecar: Member) -> dict[str, Any] | None:
    """The values of a `key.json`, or None if it is no JSON object."""
    file.seek(sidecar.offset)
    try:
        metadata = json.loads(file.read(sidecar.length))
    except (ValueError, RecursionError):
        return None
    return metadata if isinstance(metadata, dict) else None
