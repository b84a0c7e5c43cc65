"""A new shard format is one class that is registered; listing, reading and messages know it."""

import struct
from collections.abc import Iterator

import pytest

from transforms import storage
from transforms.flow.records import ImageRef
from transforms.inputs import shards
from transforms.inputs.listing import InputError, first_image, list_input, list_members
from transforms.inputs.members import Member, ShardError, ShardFormat
from transforms.inputs.reading import read_image

MARK = b"photo:"
HEADER = struct.Struct("<I")


class RowFormat(ShardFormat):
    """`.row` files: photos one after another, each after its length and a mark."""

    name = "row"
    extension = ".row"
    only_images = True

    def matches(self, path: str) -> bool:
        return path.endswith(self.extension)

    def refusal(self, path: str) -> str:
        return "unzip it" if path.endswith(".row.zip") else ""

    def members(self, path: str) -> Iterator[Member]:
        data, start = storage.read(path), 0
        while start < len(data):
            (length,) = HEADER.unpack_from(data, start)
            start += HEADER.size
            yield Member(f"@{start}", start, length, {"heading": 90})
            start += length

    def extract(self, data: bytes, offset: int) -> bytes:
        if not data.startswith(MARK):
            raise ShardError(f"no photo at byte {offset}")
        return data.removeprefix(MARK)


@pytest.fixture(autouse=True)
def row_format(monkeypatch):
    monkeypatch.setattr(shards, "_formats", dict(shards._formats))
    shards.register(RowFormat())


def write_row(path, photos: list[bytes]) -> str:
    path.write_bytes(b"".join(HEADER.pack(len(photo)) + photo for photo in photos))
    return str(path)


def test_its_members_are_listed_and_read_by_their_byte_ranges(tmp_path):
    path = write_row(tmp_path / "a.row", [MARK + b"one", MARK + b"three"])
    refs = [ref for listed in list_input(str(tmp_path)) for ref in list_members(listed)]
    assert all(isinstance(ref, ImageRef) and ref.container == "row" for ref in refs)
    assert [ref.image for ref in refs] == ["a.row/@4", "a.row/@17"]
    assert [ref.uri for ref in refs] == [f"{path}#@4", f"{path}#@17"]
    assert [ref.capture.heading for ref in refs] == [90, 90]
    assert [read_image(ref) for ref in refs] == [b"one", b"three"]


def test_a_damaged_member_fails_when_it_is_read(tmp_path):
    ref = first_image(write_row(tmp_path / "a.row", [b"something else"]))
    with pytest.raises(ShardError, match="no photo at byte 4"):
        read_image(ref)


def test_messages_name_it(tmp_path):
    expected = "not an image, a .tar or .tfrecord or .row shard, or a manifest"
    for name, message in (("notes.doc", expected), ("a.row.zip", "unzip it")):
        (tmp_path / name).touch()
        with pytest.raises(InputError, match=message):
            first_image(str(tmp_path / name))
