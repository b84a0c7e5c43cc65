"""TFRecord shards: an index of `tf.train.Example` records by byte range, robust to damage."""

import os
import re
import struct
from collections.abc import Collection, Iterator
from io import BytesIO
from typing import Any, BinaryIO

import google_crc32c

from transforms import storage
from transforms.inputs.members import (
    Member,
    ShardError,
    ShardFormat,
    packed_as,
    with_unique_names,
)
from transforms.inputs.scanning import WINDOW_BYTES, skip_zeros

EXTENSIONS = (".tfrecord", ".tfrecords")

HEADER_BYTES = 12
CHECKSUM_BYTES = 4

ENCODED_KEYS = ("image/encoded", "image")
FILENAME_KEYS = ("image/filename", "image/source_id", "filename")
CAPTURED_AT = "captured_at"
METADATA_KEYS = (
    "latitude", "longitude", CAPTURED_AT, "heading", "group", "projection_type"
)  # fmt: skip

FURTHER_IMAGE = "further image of a record"
"""Why members are passed over."""

MAX_VALUE_BYTES = 4096
"""Longer names and metadata are not taken."""

MAX_KEY_BYTES = 1024
"""Features with longer keys are not looked at."""

MAX_SHOWN = 50
"""Features that a message names."""

MAX_FIELDS = 100_000
"""Fields that are looked at in a record; usual ones have some dozens."""

_MOST = (1 << 64) - 1
"""The largest number of the wire format."""

# An intact header has four zero bytes, since lengths are below 4 GiB, and then a checksum.
_HEADER_END = re.compile(rb"(?=\0{4}(?!\0{4}))")


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

        A record is one image: the first value of `image/encoded`, else of `image`. Further ones
        are passed over. A record whose length is damaged is yielded as a member with `damage`; the
        index continues at the next record whose header is intact. The checksum of the data is
        compared when it is read.

        Raises:
            StorageError: the shard cannot be read.
        """
        yield from with_unique_names(_records(path))

    def extract(self, data: bytes, offset: int) -> bytes:
        """The encoded image out of the data of a record and the four bytes of its masked CRC-32C.

        Raises:
            ShardError: the checksum differs, or the Example is damaged or holds no image.
        """
        if _masked_crc(data, len(data) - CHECKSUM_BYTES) != data[-CHECKSUM_BYTES:]:
            raise ShardError(
                f"TFRecord at byte {offset}: its checksum (CRC-32C) differs; it is damaged"
            )
        return _encoded_image(data, offset)


def _records(path: str) -> Iterator[Member]:
    with storage.open_file(path) as file:
        size = file.seek(0, os.SEEK_END)
        if _length_at(file, 0) is None and (packing := packed_as(file)):
            damage = (
                f"{packing}, not a plain TFRecord: records are read by byte range, so unpack it, "
                "or write it without compression"
            )
            yield Member("@0", 0, size, damage=damage)
            return
        position = 0
        while position < size:
            length = _length_at(file, position)
            data = position + HEADER_BYTES
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
                position = _next_record(file, data, size)  # If only the length is wrong.
                yield Member(f"@{data}", data, position - data, damage=damage)
                continue
            yield from _images(file, data, length)


def _images(file: BinaryIO, data: int, length: int) -> Iterator[Member]:
    """The image of a record, named by what the record says, and its further images."""
    features: dict[str, Any] = {}
    images = 1
    try:
        example = _Example(file, data, data + length)
        features = example.small_values((*FILENAME_KEYS, *METADATA_KEYS))
        images = sum(1 for _ in example.images())
    except ShardError:
        pass  # Reading the record checks it and names the damage.
    given = (features.get(key) for key in FILENAME_KEYS)
    name = str(next((value for value in given if value not in (None, "")), f"@{data}"))
    if isinstance(features.get(CAPTURED_AT), float):
        del features[CAPTURED_AT]  # Of 32 bits: a Unix time would be wrong by up to a minute.
    metadata = {key: features[key] for key in METADATA_KEYS if key in features}
    yield Member(name, data, length + CHECKSUM_BYTES, metadata)
    for _ in range(1, images):
        yield Member(name, data, 0, passed_over=FURTHER_IMAGE)


def _encoded_image(data: bytes, offset: int) -> bytes:
    """The image in a `tf.train.Example`; raises ShardError."""
    file = BytesIO(data)
    try:
        example = _Example(file, 0, len(data) - CHECKSUM_BYTES)
        for first, last in example.images():
            return data[first:last]
    except ShardError as error:
        raise ShardError(f"TFRecord at byte {offset}: {error}") from error
    raise ShardError(
        f"tf.train.Example at byte {offset}: no image; found the features "
        f"{sorted(example.features)[:MAX_SHOWN]}, expected {ENCODED_KEYS[0]!r}"
    )


def _length_at(file: BinaryIO, position: int) -> int | None:
    file.seek(position)
    return _record_length(file.read(HEADER_BYTES))


def _record_length(header: bytes) -> int | None:
    """The length in a TFRecord header, or None if its checksum does not fit."""
    if len(header) < 12 or _masked_crc(header, 8) != header[8:]:
        return None
    return struct.unpack("<Q", header[:8])[0]


def _masked_crc(data: bytes, end: int) -> bytes:
    """CRC-32C of the first bytes, as TFRecord stores it: rotated, offset, little endian."""
    crc = 0
    for start in range(0, end, WINDOW_BYTES):  # Not in one piece, which would be a copy.
        crc = google_crc32c.extend(crc, data[start : min(start + WINDOW_BYTES, end)])
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _next_record(file: BinaryIO, start: int, size: int) -> int:
    """Position of the next intact header from `start` on, or `size`."""
    while start < size:
        # The first zeros may belong to a header, whose length may begin with them.
        start = max(start, skip_zeros(file, start, size) - HEADER_BYTES)
        file.seek(start)
        block = file.read(WINDOW_BYTES + HEADER_BYTES)
        for zeros in _HEADER_END.finditer(block, 4):
            header = block[zeros.start() - 4 : zeros.start() + 8]
            if _record_length(header) is not None:
                return start + zeros.start() - 4
        start += WINDOW_BYTES
    return size


# tf.train.Example is a small, frozen schema (tensorflow/core/example/feature.proto):
#   Example {Features features = 1}    Features {map<string, Feature> feature = 1}
#   Feature {oneof: BytesList bytes_list = 1, FloatList float_list = 2, Int64List int64_list = 3}
# Walking the wire format by hand lets the index skip over the image bytes with a seek.


class _Example:
    """A `tf.train.Example` in a file, between two positions.

    Attributes:
        features: where the `Feature` message of each key is.

    Raises:
        ShardError: it is none, or has more than `MAX_FIELDS` fields; so do the methods.
    """

    def __init__(self, file: BinaryIO, start: int, end: int):
        self._file = file
        self._seen = 0
        self.features: dict[str, tuple[int, int]] = {}
        for number, *features in self._fields(start, end):
            if number != 1:
                continue
            for entry, *pair in self._fields(*features):
                if entry != 1:
                    continue
                parts = {n: (first, last) for n, first, last in self._fields(*pair)}
                if 1 in parts and 2 in parts and parts[1][1] - parts[1][0] <= MAX_KEY_BYTES:
                    self.features[self._read(*parts[1]).decode("utf-8", "replace")] = parts[2]

    def images(self) -> Iterator[tuple[int, int]]:
        """Where the images are: the first value is the image of the record."""
        for key in ENCODED_KEYS:
            for kind, *values in self._fields(*self.features.get(key, (0, 0))):
                if kind == 1:
                    yield from ((a, b) for number, a, b in self._fields(*values) if number == 1)

    def small_values(self, keys: Collection[str]) -> dict[str, str | float | int]:
        """The values of those of some features that have a single, small one."""
        found = {}
        for key in keys:
            values = list(self._values(*self.features.get(key, (0, 0))))
            if len(values) == 1:
                found[key] = values[0]
        return found

    def _values(self, start: int, end: int) -> Iterator[str | float | int]:
        """The values of a `Feature`, without long ones."""
        for kind, first, last in self._fields(start, end):
            for number, value_first, value_last in self._fields(first, last):
                if number != 1 or value_last - value_first > MAX_VALUE_BYTES:
                    continue
                data = self._read(value_first, value_last)
                if kind == 1:
                    yield data.decode("utf-8", "surrogateescape")
                elif kind == 2:
                    yield from struct.unpack(f"<{len(data) // 4}f", data[: len(data) // 4 * 4])
                elif kind == 3:
                    packed = BytesIO(data)
                    while packed.tell() < len(data):
                        value = _varint(packed)
                        yield value - (1 << 64) if value >> 63 else value

    def _fields(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Field number and value span of each field of the message between two positions."""
        file, position = self._file, start
        while position < end:
            self._seen += 1
            if self._seen > MAX_FIELDS:
                raise ShardError(f"not a usual tf.train.Example: more than {MAX_FIELDS} fields")
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

    def _read(self, first: int, last: int) -> bytes:
        self._file.seek(first)
        return self._file.read(last - first)


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value & _MOST
    raise ShardError("not a tf.train.Example: a number is cut short")
