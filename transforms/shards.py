"""Tar and TFRecord shards: an index of members by byte range, robust to damage.

Tar shards follow the WebDataset convention: `key.jpg` and, beside it, `key.json` with metadata.
TFRecord shards hold `tf.train.Example` records with the usual keys of image data sets. Indexing
reads headers and small values only; the images themselves are read later, each by its byte range,
so that several workers can share one shard and a damaged member costs only itself.
"""

import json
import os
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import groupby
from typing import Any, BinaryIO

import google_crc32c

from transforms import storage

TAR_BLOCK = 512
CHECKSUM_BYTES = 4

ENCODED_KEYS = ("image/encoded", "image")
FILENAME_KEYS = ("image/filename", "image/source_id", "filename")
METADATA_KEYS = (
    "latitude", "longitude", "captured_at", "heading", "group", "projection_type"
)  # fmt: skip

_MAX_SMALL_VALUE = 4096
"""Feature values above this are skipped while indexing; names and numbers are far smaller."""


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


def tar_members(path: str) -> Iterator[Member]:
    """Index a tar shard: its files, with the metadata of their `key.json`.

    `.json` members that are the metadata of another member are not yielded themselves. Damaged
    headers and a cut-off end are yielded as members with `damage`.

    Raises:
        StorageError: the shard cannot be read.
    """
    yield from _with_names_of_their_own(_samples(path))


def _samples(path: str) -> Iterator[Member]:
    """Files of a tar with the metadata beside them; a `.json` without use is a file like others."""
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
    """Files of a tar in their order; what lies between them unread is yielded as damage."""
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


def tfrecord_members(path: str) -> Iterator[Member]:
    """Index a TFRecord shard of `tf.train.Example` records, in their order.

    A record whose length is damaged is yielded as a member with `damage`, and the index goes on at
    the next record whose header is intact. The data's own checksum is checked when it is read.

    Raises:
        StorageError: the shard cannot be read.
    """
    yield from _with_names_of_their_own(_records(path))


def _records(path: str) -> Iterator[Member]:
    with storage.open_file(path) as file:
        size = file.seek(0, os.SEEK_END)
        position = 0
        while position < size:
            file.seek(position)
            length = _record_length(file.read(12))
            data = position + 12
            if length is None:
                start, position = position, _next_record(file, position + 1, size)
                yield Member(
                    f"@{start}", start, position - start, damage=f"no TFRecord at byte {start}"
                )
                continue
            position = data + length + CHECKSUM_BYTES
            if position > size:
                damage = (
                    f"cut short: a record of {length} bytes at byte {data}, "
                    f"the file ends {position - size} bytes earlier"
                )
                yield Member(f"@{data}", data, size - data, damage=damage)
                continue
            try:
                features = _example_features(file, data, data + length)
            except ShardError:
                features = {}  # Reading the record checks it and names the damage.
            given = (features.get(key) for key in FILENAME_KEYS)
            name = next((value for value in given if value not in (None, "")), f"@{data}")
            metadata = {k: features[k] for k in METADATA_KEYS if k in features}
            yield Member(str(name), data, length + CHECKSUM_BYTES, metadata)


def read_tfrecord_image(data: bytes, offset: int) -> bytes:
    """The encoded image out of a TFRecord's data followed by its checksum.

    Args:
        data: the record's data and the four bytes of its masked CRC-32C.
        offset: where `data` starts in the shard, for messages.

    Raises:
        ShardError: the checksum differs, or the Example is damaged or holds no image.
    """
    data, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if _masked_crc(data) != checksum:
        raise ShardError(
            f"TFRecord at byte {offset}: its checksum (CRC-32C) differs; it is damaged"
        )
    file = BytesIO(data)
    try:
        spans = _feature_spans(file, 0, len(data))
        for key in ENCODED_KEYS:
            if key in spans:
                values = list(_values(file, *spans[key], limit=len(data)))
                if values and isinstance(values[0], bytes):
                    return values[0]
    except ShardError as error:
        raise ShardError(f"TFRecord at byte {offset}: {error}") from error
    raise ShardError(
        f"tf.train.Example at byte {offset}: no image; found the features "
        f"{sorted(spans)}, expected {ENCODED_KEYS[0]!r}"
    )


def _record_length(header: bytes) -> int | None:
    """The length in a TFRecord header, or None if its checksum does not fit."""
    if len(header) < 12 or _masked_crc(header[:8]) != header[8:]:
        return None
    return struct.unpack("<Q", header[:8])[0]


def _masked_crc(data: bytes) -> bytes:
    """CRC-32C as TFRecord stores it: rotated, offset, little endian."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _next_record(file: BinaryIO, start: int, size: int) -> int:
    """Position of the next intact header, or `size`.

    Lengths are below 4 GiB, so the upper half of the eight length bytes is zero: searching for four
    zero bytes first keeps the search fast.
    """
    window = 1 << 20
    while start < size:
        file.seek(start)
        block = file.read(window + 12)
        zeros = block.find(bytes(4), 4)
        while zeros >= 0:
            header = block[zeros - 4 : zeros + 8]
            if _record_length(header) is not None:
                return start + zeros - 4
            zeros = block.find(bytes(4), zeros + 1)
        start += window
    return size


def _example_features(file: BinaryIO, start: int, end: int) -> dict[str, Any]:
    """The small scalar features of the `tf.train.Example` between two positions."""
    features = {}
    for key, span in _feature_spans(file, start, end).items():
        values = list(_values(file, *span, limit=_MAX_SMALL_VALUE))
        if len(values) == 1:
            features[key] = _as_text(values[0])
    return features


def _as_text(value: bytes | float | int) -> str | float | int:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


# tf.train.Example is a small, frozen schema (tensorflow/core/example/feature.proto):
#   Example {Features features = 1}    Features {map<string, Feature> feature = 1}
#   Feature {oneof: BytesList bytes_list = 1, FloatList float_list = 2, Int64List int64_list = 3}
# Walking the wire format by hand lets the index skip over the image bytes with a seek.


def _feature_spans(file: BinaryIO, start: int, end: int) -> dict[str, tuple[int, int]]:
    """Where the `Feature` message of each key lies."""
    spans = {}
    for number, first, last in _fields(file, start, end):
        if number != 1:
            continue
        for entry, entry_first, entry_last in _fields(file, first, last):
            if entry != 1:
                continue
            parts = {n: (a, b) for n, a, b in _fields(file, entry_first, entry_last)}
            if 1 in parts and 2 in parts:
                file.seek(parts[1][0])
                key = file.read(parts[1][1] - parts[1][0]).decode("utf-8", "replace")
                spans[key] = parts[2]
    return spans


def _values(file: BinaryIO, start: int, end: int, limit: int) -> Iterator[bytes | float | int]:
    """The values of a `Feature`; bytes longer than `limit` are left out."""
    for kind, first, last in _fields(file, start, end):
        for number, value_first, value_last in _fields(file, first, last):
            if number != 1 or value_last - value_first > limit:
                continue
            file.seek(value_first)
            data = file.read(value_last - value_first)
            if kind == 1:
                yield data
            elif kind == 2:
                yield from struct.unpack(f"<{len(data) // 4}f", data[: len(data) // 4 * 4])
            elif kind == 3:
                packed = BytesIO(data)
                while packed.tell() < len(data):
                    value = _varint(packed)
                    yield value - (1 << 64) if value >> 63 else value


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Field number and value span of each field of the message between two positions."""
    position = start
    while position < end:
        file.seek(position)
        tag = _varint(file)
        wire_type = tag & 7
        if wire_type == 2:
            length = _varint(file)
            first = file.tell()
        elif wire_type == 0:
            first = file.tell()
            _varint(file)
            length = file.tell() - first
        elif wire_type in (1, 5):
            first, length = file.tell(), 8 if wire_type == 1 else 4
        else:
            raise ShardError(
                f"not a tf.train.Example: wire type {wire_type} at its byte {position}"
            )
        if first + length > end:
            raise ShardError(
                f"not a tf.train.Example: the field at its byte {position} runs over its end"
            )
        yield tag >> 3, first, first + length
        position = first + length


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ShardError("not a tf.train.Example: a number is cut short")
