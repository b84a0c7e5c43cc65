import bz2
import gzip
import io
import json
import lzma
import os
import struct
import tarfile
import zlib

import google_crc32c
import numpy as np
import pytest
import webdataset
from PIL import Image

from transforms import storage
from transforms.inputs import tar_shards, tfrecord_shards
from transforms.inputs.members import Member, ShardError
from transforms.inputs.tar_shards import TarFormat
from transforms.inputs.tfrecord_shards import TFRecordFormat

BLOCK = tarfile.BLOCKSIZE
TAR = TarFormat()
TFRECORD = TFRecordFormat()


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (8 + seed, 12, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def write_tar(path, members, format=tarfile.PAX_FORMAT, **options):
    """A tar by Python's tarfile; returns where the header of each member starts."""
    with tarfile.open(path, "w", format=format, **options) as archive:
        starts = []
        for name, data in members:
            starts.append(archive.offset)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return starts


def content(path, member: Member) -> bytes:
    return storage.read(str(path), member.offset, member.length)


def intact(path, members) -> dict[str, bytes]:
    return {m.name: content(path, m) for m in members if not m.damage}


def damage(members) -> list[str]:
    return [member.damage for member in members if member.damage]


@pytest.fixture
def five(tmp_path):
    """The path of a tar of five photos, what is in it, and where its headers start."""
    photos = {f"{name}.jpg": jpeg(seed) for seed, name in enumerate("abcde")}
    path = tmp_path / "five.tar"
    return path, photos, write_tar(path, photos.items())


def test_a_shard_written_by_webdataset_is_read_byte_by_byte(tmp_path):
    path = tmp_path / "w.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for seed in range(3):
            about = {"latitude": 55.7, "group": f"street {seed}"}
            writer.write({"__key__": f"lund/{seed:03d}", "jpg": jpeg(seed), "json": about})
    members = list(TAR.members(str(path)))
    assert intact(path, members) == {f"lund/{seed:03d}.jpg": jpeg(seed) for seed in range(3)}
    assert [m.metadata["group"] for m in members] == ["street 0", "street 1", "street 2"]


def test_webdataset_and_the_index_agree_on_a_shard_made_by_tar(tmp_path, five):
    path, photos, _ = five
    read = webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False)
    samples = {sample["__key__"] + ".jpg": sample["jpg"] for sample in read}
    assert samples == intact(path, TAR.members(str(path))) == photos


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_names_of_every_tar_format_are_read_whole(tmp_path, format):
    long = "/".join(["street" * 8] * 4) + "/01.jpg"
    photos = {"a.jpg": jpeg(1), long: jpeg(2), "éß.jpg": jpeg(3), os.fsdecode(b"\xff.jpg"): jpeg(4)}
    if format != tarfile.USTAR_FORMAT:
        photos |= {"x" * 251 + ".jpg": jpeg(5)}
    write_tar(tmp_path / "t.tar", photos.items(), format, encoding="utf-8")
    members = list(TAR.members(str(tmp_path / "t.tar")))
    assert intact(tmp_path / "t.tar", members) == photos
    assert damage(members) == []


def test_global_pax_headers_and_folders_are_no_members(tmp_path):
    path = tmp_path / "t.tar"
    header = {"comment": "made for a test " * 100}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers=header) as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        entry = tarfile.TarInfo("folder/a.jpg")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"abc"))
    members = list(TAR.members(str(path)))
    assert intact(path, members) == {"folder/a.jpg": b"abc"} and len(members) == 1


def test_a_hard_link_is_a_member_with_the_bytes_of_what_it_links_to(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "b.jpg").hardlink_to(tmp_path / "a.jpg")
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        archive.add(tmp_path / "a.jpg", "a.jpg")
        archive.add(tmp_path / "b.jpg", "b.jpg")
        assert archive.getmember("b.jpg").islnk()
    members = list(TAR.members(str(tmp_path / "t.tar")))
    assert intact(tmp_path / "t.tar", members) == {"a.jpg": jpeg(1), "b.jpg": jpeg(1)}


def test_metadata_beside_a_photo_belongs_to_it_alone(tmp_path):
    path = tmp_path / "t.tar"
    members = [
        ("a.json", b'{"latitude": 1}'),
        ("a.jpg", b"A"),
        ("b.left.jpg", b"L"),
        ("b.left.json", b'{"heading": 90}'),
        ("b.right.jpg", b"R"),
        ("b.json", b'{"heading": 270}'),
        ("c.jpg", b"C"),
        ("other/a.jpg", b"O"),
    ]
    write_tar(path, members)
    found = {m.name: m.metadata for m in TAR.members(str(path))}
    assert found == {
        "a.jpg": {"latitude": 1},
        "b.left.jpg": {"heading": 90},
        "b.right.jpg": {"heading": 270},
        "c.jpg": {},
        "other/a.jpg": {},
    }


@pytest.mark.parametrize(
    "sidecar", [b"", b"{", b"[1]", b'"text"', b"\xff\xfe", b"[" * 100_000, b'{"a": 1']
)
def test_damaged_metadata_does_not_cost_the_photo(tmp_path, sidecar):
    write_tar(tmp_path / "t.tar", [("a.jpg", b"photo"), ("a.json", sidecar)])
    photo, about = TAR.members(str(tmp_path / "t.tar"))
    assert photo.metadata == {} and content(tmp_path / "t.tar", photo) == b"photo"
    assert (about.name, about.passed_over) == ("a.json", tar_shards.NO_OBJECT)


@pytest.mark.parametrize(
    "sidecar",
    [
        json.dumps({"text": "x" * tar_shards.MAX_SIDECAR_BYTES}).encode(),
        json.dumps({f"key{n}": n for n in range(tar_shards.MAX_SIDECAR_KEYS + 1)}).encode(),
    ],
)
def test_metadata_that_are_too_large_are_passed_over(tmp_path, sidecar):
    write_tar(tmp_path / "t.tar", [("a.jpg", b"a"), ("a.json", sidecar), ("b.jpg", b"b")])
    photo, about, _ = TAR.members(str(tmp_path / "t.tar"))
    assert (photo.metadata, photo.damage) == ({}, "")
    assert (about.name, about.passed_over) == ("a.json", tar_shards.TOO_LARGE)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-be"])
def test_metadata_are_read_in_the_encodings_of_json(tmp_path, encoding):
    about = '{"street": "Gatan å"}'.encode(encoding)
    write_tar(tmp_path / "t.tar", [("a.jpg", b"a"), ("a.json", about)])
    (photo,) = TAR.members(str(tmp_path / "t.tar"))
    assert photo.metadata == {"street": "Gatan å"}


def test_metadata_that_many_photos_share_are_passed_over_once(tmp_path):
    members = [(f"2024.01.{day:02}.jpg", b"x") for day in range(1, 31)]
    write_tar(tmp_path / "t.tar", [*members, ("2024.json", b"[]")])
    found = list(TAR.members(str(tmp_path / "t.tar")))
    assert [m.name for m in found if m.passed_over] == ["2024.json"] and len(found) == 31


def test_what_is_no_photo_is_passed_over_or_damaged_each_by_its_name(tmp_path):
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind, link in [
            ("a.jpg", tarfile.REGTYPE, ""),
            ("a.seg.png", tarfile.REGTYPE, ""),
            ("folder.jpg", tarfile.DIRTYPE, ""),
            ("folder", tarfile.DIRTYPE, ""),
            ("pipe.jpg", tarfile.FIFOTYPE, ""),
            ("disk.jpg", tarfile.BLKTYPE, ""),
            ("soft.jpg", tarfile.SYMTYPE, "a.jpg"),
            ("gone.jpg", tarfile.SYMTYPE, "/far/away.jpg"),
            ("gone.txt", tarfile.SYMTYPE, "/far/away.txt"),
            ("b.jpg", tarfile.REGTYPE, ""),
            ("b.json", tarfile.SYMTYPE, "gone.json"),
        ]:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, link
            archive.addfile(entry)
    found = {m.name: m.passed_over or m.damage.partition(" ")[0] for m in TAR.members(str(path))}
    assert found == {
        "a.jpg": "",
        "a.seg.png": tar_shards.LABEL,
        "folder.jpg": tar_shards.FOLDER,
        "pipe.jpg": "neither",
        "disk.jpg": "neither",
        "soft.jpg": "",
        "gone.jpg": "a",
        "gone.txt": "",  # Its name is not that of an image.
        "b.jpg": "",
        "b.json": tar_shards.UNREADABLE,
    }


def test_members_of_the_same_name_are_told_apart(tmp_path):
    path = tmp_path / "t.tar"
    starts = write_tar(path, [("a.jpg", b"old"), ("b.jpg", b"b"), ("a.jpg", b"new")])
    assert intact(path, TAR.members(str(path))) == {
        "a.jpg": b"old",
        "b.jpg": b"b",
        f"a@{starts[2] + BLOCK}.jpg": b"new",
    }


@pytest.mark.parametrize("broken", range(5))
def test_a_damaged_header_costs_only_its_member(five, broken):
    path, photos, starts = five
    data = bytearray(path.read_bytes())
    data[starts[broken] + 5] ^= 0xFF
    path.write_bytes(data)
    members = list(TAR.members(str(path)))
    lost = list(photos)[broken]
    assert intact(path, members) == {n: d for n, d in photos.items() if n != lost}
    assert damage(members) == [f"no tar header at byte {starts[broken]}"]


def test_a_damaged_header_may_be_the_only_one(tmp_path):
    write_tar(tmp_path / "t.tar", [("a.jpg", jpeg(1))])
    data = bytearray((tmp_path / "t.tar").read_bytes())
    data[0] ^= 0xFF
    (tmp_path / "t.tar").write_bytes(data)
    assert damage(TAR.members(str(tmp_path / "t.tar"))) == ["no tar header at byte 0"]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("last", [False, True])
def test_a_damaged_header_behind_a_long_name_costs_only_its_member(tmp_path, format, last):
    path = tmp_path / "t.tar"
    names = ["a.jpg", "é" * 120 + ".jpg", *([] if last else ["c.jpg", "d" * 150 + ".jpg"])]
    photos = {name: jpeg(seed) for seed, name in enumerate(names)}
    starts = write_tar(path, photos.items(), format)
    data = bytearray(path.read_bytes())
    assert data[starts[1] + 156] in b"Lx"
    data[starts[1] + 2 * BLOCK] ^= 0xFF
    path.write_bytes(data)
    members = list(TAR.members(str(path)))
    assert intact(path, members) == {n: d for n, d in photos.items() if n != names[1]}
    assert damage(members) == [f"no tar header at byte {starts[1]}"]


def test_damage_right_behind_a_global_pax_header_is_reported(tmp_path):
    path = tmp_path / "t.tar"
    options = {"pax_headers": {"comment": "x"}}
    starts = write_tar(path, [("a.jpg", jpeg(1)), ("b.jpg", jpeg(2))], **options)
    first = 2 * BLOCK
    assert starts[0] in (0, first)
    data = bytearray(path.read_bytes())
    data[first] ^= 0xFF
    path.write_bytes(data)
    members = list(TAR.members(str(path)))
    assert intact(path, members) == {"b.jpg": jpeg(2)}
    assert damage(members) == [f"no tar header at byte {first}"]


def test_a_header_with_a_negative_size_ends_neither_in_a_loop_nor_the_shard(five):
    path, photos, starts = five
    data = bytearray(path.read_bytes())
    header = data[starts[1] : starts[1] + BLOCK]
    header[124:136] = b"\xff" * 10 + b"\xf0\x00"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[starts[1] : starts[1] + BLOCK] = header
    path.write_bytes(data)
    members = list(TAR.members(str(path)))
    assert intact(path, members) == {n: d for n, d in photos.items() if n != "b.jpg"}
    assert damage(members) == [f"no tar header at byte {starts[1]}"]


def test_a_tar_cut_inside_a_photo_says_how_much_is_missing(five):
    path, photos, starts = five
    end = starts[3] + BLOCK + 10
    path.write_bytes(path.read_bytes()[:end])
    members = list(TAR.members(str(path)))
    assert list(intact(path, members)) == ["a.jpg", "b.jpg", "c.jpg"]
    missing = len(photos["d.jpg"]) - 10
    assert damage(members) == [
        f"cut short: {len(photos['d.jpg'])} bytes expected at byte {starts[3] + BLOCK}, "
        f"the tar ends {missing} bytes earlier"
    ]


def test_a_tar_cut_inside_a_header_says_where(five):
    path, _, starts = five
    path.write_bytes(path.read_bytes()[: starts[4] + 100])
    members = list(TAR.members(str(path)))
    assert list(intact(path, members)) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert damage(members) == [f"no tar header at byte {starts[4]}"]


def test_a_tar_without_its_closing_blocks_is_whole(five):
    path, photos, starts = five
    last = len(photos["e.jpg"])
    path.write_bytes(path.read_bytes()[: starts[4] + BLOCK + last])
    assert intact(path, TAR.members(str(path))) == photos


def test_tars_put_one_behind_another_are_read_to_the_end(tmp_path, five):
    path, photos, _ = five
    write_tar(tmp_path / "more.tar", [("f.jpg", jpeg(9))])
    path.write_bytes(path.read_bytes() + (tmp_path / "more.tar").read_bytes())
    assert intact(path, TAR.members(str(path))) == photos | {"f.jpg": jpeg(9)}


@pytest.mark.parametrize("data", [b"", bytes(10_240), bytes(100)])
def test_a_tar_of_nothing_has_no_members(tmp_path, data):
    (tmp_path / "t.tar").write_bytes(data)
    assert list(TAR.members(str(tmp_path / "t.tar"))) == []


@pytest.mark.parametrize("data", [b"text", b"text" * 1000, b"\x1f" + bytes(3000), jpeg(3)])
def test_what_is_no_tar_is_one_damaged_member(tmp_path, data):
    (tmp_path / "t.tar").write_bytes(data)
    (member,) = TAR.members(str(tmp_path / "t.tar"))
    assert member.damage == "no tar header at byte 0" and member.length == len(data)


def test_a_sparse_member_is_refused(tmp_path):
    with open(tmp_path / "a.jpg", "wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    status = os.spawnlp(
        os.P_WAIT, "tar", "tar", "-S", "-C", str(tmp_path), "-cf", f"{tmp_path}/t.tar", "a.jpg"
    )
    assert status == 0
    (member,) = TAR.members(str(tmp_path / "t.tar"))
    assert "sparse" in member.damage


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, bz2.compress, lzma.compress])
def test_a_packed_shard_says_what_it_is(tmp_path, pack):
    write_tar(tmp_path / "plain.tar", [("a.jpg", jpeg(1))])
    packed = pack((tmp_path / "plain.tar").read_bytes())
    for name, index in (("t.tar", TAR.members), ("t.tfrecord", TFRECORD.members)):
        (tmp_path / name).write_bytes(packed)
        (member,) = index(str(tmp_path / name))
        assert member.damage.startswith(("gzip data", "zlib data", "bzip2 data", "xz data"))
        assert "unpack it" in member.damage and member.length == len(packed)


def test_a_tar_whose_first_name_looks_like_a_packed_file_is_a_tar(tmp_path):
    write_tar(tmp_path / "t.tar", [("BZh.jpg", jpeg(1))])
    assert intact(tmp_path / "t.tar", TAR.members(str(tmp_path / "t.tar"))) == {"BZh.jpg": jpeg(1)}


def test_two_links_of_one_name_are_told_apart(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
        for _ in range(3):
            link = tarfile.TarInfo("b.jpg")
            link.type, link.linkname = tarfile.LNKTYPE, "a.jpg"
            archive.addfile(link)
    names = [m.name for m in TAR.members(str(tmp_path / "t.tar"))]
    assert names == ["a.jpg", "b.jpg", "b@512.jpg", "b@512-2.jpg"]


def test_a_shard_that_is_not_there_says_so(tmp_path):
    for index in (TAR.members, TFRECORD.members):
        with pytest.raises(storage.MissingError, match="No such file"):
            list(index(str(tmp_path / "gone")))


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


def example(tf, **features) -> bytes:
    """A serialised tf.train.Example; `__` in a name stands for `/`."""
    kinds = {
        bytes: lambda v: tf.train.Feature(bytes_list=tf.train.BytesList(value=v)),
        float: lambda v: tf.train.Feature(float_list=tf.train.FloatList(value=v)),
        int: lambda v: tf.train.Feature(int64_list=tf.train.Int64List(value=v)),
    }
    feature = {
        name.replace("__", "/"): kinds[type(value)]([value]) for name, value in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write_records(tf, path, records) -> list[int]:
    """A TFRecord by TensorFlow; returns where each record starts."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    lengths = [len(record) + 16 for record in records]
    return [sum(lengths[:position]) for position in range(len(records))]


def masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def images(path, members) -> dict[str, bytes]:
    return {m.name: TFRECORD.extract(content(path, m), m.offset) for m in members if not m.damage}


@pytest.fixture
def four(tf, tmp_path):
    """A TFRecord of four photos, what is in it, and where its records start."""
    photos = {f"{seed}.jpg": jpeg(seed) for seed in range(4)}
    path = tmp_path / "four.tfrecord"
    records = [
        example(tf, image__encoded=data, image__filename=name.encode())
        for name, data in photos.items()
    ]
    return path, photos, write_records(tf, path, records)


def test_the_index_and_tf_data_agree_on_every_byte(tf, four):
    path, photos, _ = four
    spec = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/filename": tf.io.FixedLenFeature([], tf.string),
    }
    read = {}
    for record in tf.data.TFRecordDataset(str(path)):
        parsed = tf.io.parse_single_example(record, spec)
        read[parsed["image/filename"].numpy().decode()] = parsed["image/encoded"].numpy()
    assert read == images(path, TFRECORD.members(str(path))) == photos


def test_metadata_of_an_example_is_read_with_its_type(tf, tmp_path):
    path = tmp_path / "t.tfrecord"
    record = example(
        tf,
        image__encoded=jpeg(1),
        latitude=-33.5,
        captured_at=1_700_000_000,
        heading=-90,
        group="gatan å".encode(),
        image__format=b"jpeg",
    )
    write_records(tf, path, [record])
    (member,) = TFRECORD.members(str(path))
    assert member.metadata == {
        "latitude": -33.5,
        "captured_at": 1_700_000_000,
        "heading": -90,
        "group": "gatan å",
    }


def test_a_time_of_32_bits_is_unknown(tf, tmp_path):
    path = tmp_path / "t.tfrecord"
    record = example(tf, image__encoded=jpeg(1), captured_at=1_614_853_230.0, heading=90.0)
    write_records(tf, path, [record])
    (member,) = TFRECORD.members(str(path))
    assert member.metadata == {"heading": 90.0}


@pytest.mark.parametrize(
    ("features", "name"),
    [
        ({"image__filename": b"a/1.jpg", "image__source_id": b"7"}, "a/1.jpg"),
        ({"image__filename": b"", "image__source_id": b"7"}, "7"),
        ({"filename": b"f.jpg"}, "f.jpg"),
        ({"image__source_id": 42}, "42"),
        ({"image__filename": b"\xff.jpg"}, "\udcff.jpg"),
        ({"image__filename": b""}, "@12"),
        ({}, "@12"),
    ],
)
def test_a_record_is_named_by_what_it_says_or_by_its_place(tf, tmp_path, features, name):
    path = tmp_path / "t.tfrecord"
    write_records(tf, path, [example(tf, image__encoded=jpeg(1), **features)])
    assert images(path, TFRECORD.members(str(path))) == {name: jpeg(1)}


def test_further_images_of_a_record_are_passed_over(tf, tmp_path):
    path = tmp_path / "t.tfrecord"
    images_of = {"image/encoded": [jpeg(1), jpeg(2)], "image": [jpeg(3)], "label": [jpeg(4)]}
    feature = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
        for key, value in images_of.items()
    }
    record = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    write_records(tf, path, [record, example(tf, image=jpeg(5))])
    photo, second, third, other = TFRECORD.members(str(path))
    assert images(path, [photo, other]) == {"@12": jpeg(1), other.name: jpeg(5)}
    assert {second.passed_over, third.passed_over} == {tfrecord_shards.FURTHER_IMAGE}


def test_records_of_the_same_name_are_told_apart(tf, tmp_path):
    path = tmp_path / "t.tfrecord"
    records = [example(tf, image__encoded=jpeg(n), image__filename=b"x.jpg") for n in range(3)]
    starts = write_records(tf, path, records)
    found = images(path, TFRECORD.members(str(path)))
    assert list(found) == ["x.jpg", *(f"x@{start + 12}.jpg" for start in starts[1:])]
    assert list(found.values()) == [jpeg(0), jpeg(1), jpeg(2)]


def test_damaged_data_costs_only_its_record(four):
    path, photos, starts = four
    data = bytearray(path.read_bytes())
    data[starts[1] + 200] ^= 0xFF
    path.write_bytes(data)
    members = list(TFRECORD.members(str(path)))
    assert len(members) == 4
    bad = members.pop(1)
    with pytest.raises(ShardError, match=rf"byte {starts[1] + 12}: its checksum \(CRC-32C\)"):
        TFRECORD.extract(content(path, bad), bad.offset)
    assert images(path, members) == {n: d for n, d in photos.items() if n != "1.jpg"}


@pytest.mark.parametrize("broken", range(4))
@pytest.mark.parametrize("at", [0, 7, 9])
def test_a_damaged_length_costs_only_its_record(four, broken, at):
    path, photos, starts = four
    data = bytearray(path.read_bytes())
    data[starts[broken] + at] ^= 0x55
    path.write_bytes(data)
    members = list(TFRECORD.members(str(path)))
    assert images(path, members) == {n: d for n, d in photos.items() if n != f"{broken}.jpg"}
    assert damage(members) == [f"no TFRecord at byte {starts[broken]}"]


def test_the_next_record_is_found_behind_megabytes_of_damage(tf, tmp_path):
    path = tmp_path / "t.tfrecord"
    noise = np.random.default_rng(0).integers(0, 256, (2 << 20) + 12_345, np.uint8).tobytes()
    records = [example(tf, image__encoded=data) for data in (noise, jpeg(1), jpeg(2))]
    starts = write_records(tf, path, records)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    damaged, *others = TFRECORD.members(str(path))
    assert (damaged.offset, damaged.length) == (0, starts[1])
    assert list(images(path, others).values()) == [jpeg(1), jpeg(2)]


def test_a_shard_cut_inside_a_record_says_how_much_is_missing(four):
    path, _, starts = four
    whole = path.read_bytes()
    path.write_bytes(whole[: starts[3] + 40])
    members = list(TFRECORD.members(str(path)))
    assert list(images(path, members)) == ["0.jpg", "1.jpg", "2.jpg"]
    (message,) = damage(members)
    assert f"at byte {starts[3] + 12}, the file ends {len(whole) - starts[3] - 40}" in message


def test_a_shard_cut_inside_a_length_says_where(four):
    path, _, starts = four
    path.write_bytes(path.read_bytes()[: starts[3] + 5])
    members = list(TFRECORD.members(str(path)))
    assert list(images(path, members)) == ["0.jpg", "1.jpg", "2.jpg"]
    assert damage(members) == [f"no TFRecord at byte {starts[3]}"]


def test_an_example_without_an_image_names_what_it_has(tf, tmp_path):
    path = tmp_path / "t.tfrecord"
    write_records(tf, path, [example(tf, label=3, image__filename=b"a.jpg")])
    (member,) = TFRECORD.members(str(path))
    assert member.name == "a.jpg"
    with pytest.raises(ShardError, match=r"byte 12: no image; .*\['image/filename', 'label'\]"):
        TFRECORD.extract(content(path, member), member.offset)


@pytest.mark.parametrize(
    "garbage", [b"", b"no example at all", b"\xff" * 50, b"\x0a\x7f", b"\x0f\x00", jpeg(1)]
)
def test_a_record_that_is_no_example_costs_only_itself(tf, tmp_path, garbage):
    path = tmp_path / "t.tfrecord"
    write_records(tf, path, [garbage, example(tf, image__encoded=jpeg(2))])
    bad, good = TFRECORD.members(str(path))
    assert bad.name == "@12"
    with pytest.raises(ShardError, match="at byte 12: "):
        TFRECORD.extract(content(path, bad), bad.offset)
    assert images(path, [good]) == {good.name: jpeg(2)}


def test_damage_anywhere_in_a_record_is_never_more_than_a_shard_error(four):
    path, photos, starts = four
    whole = path.read_bytes()
    random = np.random.default_rng(3)
    for position in random.integers(starts[1], starts[2], 200):
        data = bytearray(whole)
        data[position] ^= int(random.integers(1, 256))
        path.write_bytes(data)
        found = {}
        for member in TFRECORD.members(str(path)):
            try:
                if not member.damage:
                    found |= images(path, [member])
            except ShardError:
                pass
        assert found == {n: d for n, d in photos.items() if n != "1.jpg"}


def test_a_length_that_lies_costs_only_its_record(four):
    path, photos, starts = four
    data = bytearray(path.read_bytes())
    length = struct.pack("<Q", (1 << 32) - 1)
    data[starts[1] : starts[1] + 12] = length + masked_crc(length)
    path.write_bytes(data)
    members = list(TFRECORD.members(str(path)))
    assert images(path, members) == {n: d for n, d in photos.items() if n != "1.jpg"}
    assert [d.partition(":")[0] for d in damage(members)] == ["cut short"]


def test_zeros_between_records_take_no_time(four):
    path, photos, starts = four
    whole = path.read_bytes()
    with open(path, "r+b") as file:
        file.write(whole[: starts[2]])
        file.write(bytes(8 << 20))
        file.seek(1 << 42)
        file.write(whole[starts[2] :])
    members = list(TFRECORD.members(str(path)))
    assert images(path, members) == photos
    assert damage(members) == [f"no TFRecord at byte {starts[2]}"]


@pytest.mark.parametrize(
    "record",
    [
        b"\x10\x01" * 1_000_000,  # Fields that no Example has.
        b"\x0a" + b"\x80" * 9 + b"\x01",  # A message of 2 ** 63 bytes.
        b"\x0a\x02\x0a\x00" * 500_000,  # Features without an entry's content.
        b"\xff" * 1_000_000,
    ],
)
def test_a_record_that_makes_work_costs_only_itself(tf, tmp_path, record):
    path = tmp_path / "t.tfrecord"
    write_records(tf, path, [record, example(tf, image__encoded=jpeg(2))])
    bad, good = TFRECORD.members(str(path))
    with pytest.raises(ShardError, match="at byte 12: not a"):
        TFRECORD.extract(content(path, bad), bad.offset)
    assert images(path, [good]) == {good.name: jpeg(2)}


def test_thousands_of_features_are_no_hindrance(tf, tmp_path):
    path = tmp_path / "t.tfrecord"
    features = {f"embedding{n}": float(n) for n in range(5000)}
    record = example(tf, **features, image__encoded=jpeg(1), image__filename=b"a.jpg", heading=9)
    write_records(tf, path, [record])
    (member,) = TFRECORD.members(str(path))
    assert member.metadata == {"heading": 9}
    assert images(path, [member]) == {"a.jpg": jpeg(1)}


@pytest.mark.parametrize("data", [b"", b"text" * 100, bytes(1000), struct.pack("<QI", 5, 0)])
def test_what_is_no_tfrecord_is_at_most_one_damaged_member(tmp_path, data):
    (tmp_path / "t.tfrecord").write_bytes(data)
    members = list(TFRECORD.members(str(tmp_path / "t.tfrecord")))
    assert damage(members) == ["no TFRecord at byte 0"] * bool(data)


def test_metadata_written_as_json_keeps_its_values(tmp_path):
    about = {"id": "00123", "captured_at": "2024-05-01T10:00:00Z", "nested": {"a": [1, 2]}}
    write_tar(tmp_path / "t.tar", [("a.jpg", b"x"), ("a.json", json.dumps(about).encode())])
    (member,) = TAR.members(str(tmp_path / "t.tar"))
    assert member.metadata == about
