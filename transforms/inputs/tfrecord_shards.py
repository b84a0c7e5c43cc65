"""TFRecord shards: an index of `tf.train.Example` records by byte range, robust to damage."""

import os
import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO

import google_crc32c

from transforms import storage
from transforms.inputs.members import Member, ShardError, ShardFormat, with_unique_names

EXTENSIONS = (".tfrecord", ".tfrecords")

CHECKSUM_BYTES = 4

ENCODED_KEYS = ("image/encoded", "image")
FILENAME_KEYS = ("image/filename", "image/source_id", "filename")
METADATA_KEYS = (
    "latitude", "longitude", "captured_at", "heading", "group", "projection_type"
)  # fmt: skip

_MAX_SMALL_VALUE = 4096
"""Feature values above this are skipped while indexing; names and numbers are far smaller."""


class TFRecordFormat(ShardFormat):
    """TFRecord files of `tf.train.Example` records with the usual keys of image data sets.

    A member's byte range is the data of its record and the checksum behind it.
    """

    name = "tfrecord"
    extension = EXTENSIONS[0]
    only_images = True

    def matches(self, path: str) -> bool:
        """Whether the name is `x.tfrecord`, or one of many as in `x.tfrecord-00000-of-00010`."""
        name = os.path.basename(path).lower()
        return name.endswith(EXTENSIONS) or any(f"{known}-" in name for known in EXTENSIONS)

    def members(self, path: str) -> Iterator[Member]:
        """Index a TFRecord shard, in the order of its records.

        A record whose length is damaged is yielded as a member with `damage`; the index continues
        at the next record whose header is intact. The checksum of the data is compared when it is
        read.

        Raises:
            StorageError: the shard cannot be read.
        """
        yield from with_unique_names(_records(path))

    def extract(self, data: bytes, offset: int) -> bytes:
        """The encoded image out of the data of a record and the four bytes of its masked CRC-32C.

        Raises:
            ShardError: the checksum differs, or the Example is damaged or holds no image.
        """
        data, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
        if _masked_crc(data) != checksum:
            raise ShardError(
                f"TFRecord at byte {offset}: its checksum (CRC-32C) differs; it is damaged"
            )
        return _encoded_image(data, offset)


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


def _encoded_image(data: bytes, offset: int) -> bytes:
    """The image in a `tf.train.Example`; raises ShardError."""
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
