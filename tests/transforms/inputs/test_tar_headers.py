"""The walk over tar headers: what Python's tarfile and GNU tar write, and what nobody should."""

import io
import os
import subprocess
import tarfile

import pytest

from transforms.inputs.tar_headers import BLOCK, MAX_EXTENSION_BYTES, Entry, Kind, read_entries

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]

KINDS = {
    tarfile.LNKTYPE: Kind.HARD_LINK,
    tarfile.SYMTYPE: Kind.SYMBOLIC_LINK,
    tarfile.DIRTYPE: Kind.FOLDER,
    tarfile.FIFOTYPE: Kind.SPECIAL,
    tarfile.CHRTYPE: Kind.SPECIAL,
    tarfile.BLKTYPE: Kind.SPECIAL,
}

Summary = tuple[str, Kind, int, int, str]


def walk(path) -> list[Entry]:
    with open(path, "rb") as file:
        return list(read_entries(file, os.path.getsize(path)))


def of_walk(path) -> list[Summary]:
    return [(e.name, e.kind, e.offset, e.length, e.target) for e in walk(path)]


def of_tarfile(path) -> list[Summary]:
    with tarfile.open(path, encoding="utf-8", ignore_zeros=True) as archive:
        return [
            (m.name, KINDS.get(m.type, Kind.FILE), m.offset_data, m.size, m.linkname)
            for m in archive
        ]


def info(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = ""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.linkname = kind, size, link
    return entry


def write(path, entries, format=tarfile.PAX_FORMAT, **options) -> None:
    with tarfile.open(path, "w", format=format, encoding="utf-8", **options) as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))


def raw(name: bytes, kind: bytes = b"0", data: bytes = b"", size: bytes | None = None) -> bytes:
    """A header as this test wants it, with a right checksum, and data."""
    header = bytearray(BLOCK)
    header[: len(name)] = name
    header[124:136] = b"%011o\0" % len(data) if size is None else size
    header[156:157] = kind
    header[257:265] = b"ustar\00000"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % BLOCK)


@pytest.mark.parametrize("format", FORMATS)
def test_every_kind_of_member_is_found_as_tarfile_finds_it(tmp_path, format):
    entries = [
        info("a.jpg", size=700),
        info("./empty.jpg"),
        info("folder.jpg", tarfile.DIRTYPE),
        info("folder.jpg/b.jpg", size=512),
        info("hard.jpg", tarfile.LNKTYPE, link="a.jpg"),
        info("soft.jpg", tarfile.SYMTYPE, link="/far/away.jpg"),
        info("pipe.jpg", tarfile.FIFOTYPE),
        info("character.jpg", tarfile.CHRTYPE),
        info("block.jpg", tarfile.BLKTYPE),
        info("tape.jpg", tarfile.CONTTYPE, size=3),
        info("a.jpg", size=5),
        info("/root.jpg", size=1),
        info("../up.jpg", size=1),
        info("C:\\d\\é.jpg", size=1),
        info(os.fsdecode(b"\xff\xfe.jpg"), size=1),
        info("/".join(["street" * 8] * 4) + "/prefix.jpg", size=9),
        info("other.bin", b"Z", size=600),
        info("last.jpg", size=1),
    ]
    if format != tarfile.USTAR_FORMAT:
        entries += [
            info("n" * 100_000 + ".jpg", size=2),
            info("lién.jpg", tarfile.SYMTYPE, link="z" * 5000),
        ]
    path = tmp_path / "t.tar"
    write(path, entries, format)
    found = of_walk(path)
    assert found == of_tarfile(path)
    assert [name for name, *_ in found] == [entry.name for entry in entries]
    assert not any(entry.damage for entry in walk(path))


def test_sizes_and_names_of_pax_headers_come_before_those_of_headers(tmp_path):
    entry = info("short.jpg", size=600)
    entry.pax_headers = {"path": "its/real/näme.jpg", "size": "600"}
    path = tmp_path / "t.tar"
    write(path, [entry, info("next.jpg", size=1)], pax_headers={"comment": "x" * 2000})
    assert of_walk(path) == of_tarfile(path)
    assert [e.name for e in walk(path)] == ["its/real/näme.jpg", "next.jpg"]


@pytest.mark.parametrize("format", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_what_gnu_tar_writes_is_found_as_tarfile_finds_it(tmp_path, format):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"a" * 1000)
    (folder / "deep" / "b.jpg").hardlink_to(folder / "a.jpg")
    (folder / "c.jpg").symlink_to("deep/b.jpg")
    (folder / "empty.jpg").touch()
    if format != "v7":
        os.mkfifo(folder / "pipe.jpg")
    path = tmp_path / "t.tar"
    subprocess.run(
        ["tar", f"--format={format}", "-C", str(folder), "-cf", str(path), "."], check=True
    )
    found = of_walk(path)
    assert found == of_tarfile(path)
    assert {kind for _, kind, *_ in found} >= {Kind.FILE, Kind.HARD_LINK, Kind.SYMBOLIC_LINK}


@pytest.mark.parametrize(
    "options",
    [
        ["--format=oldgnu"],
        *(["--format=posix", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0")),
    ],
)
def test_sparse_members_have_their_own_names_and_cost_nobody_else(tmp_path, options):
    with open(tmp_path / "sparse.jpg", "wb") as file:
        for number in range(60):  # More pieces than fit into one header.
            file.seek(number << 17)
            file.write(b"piece")
    (tmp_path / "z.jpg").write_bytes(b"z")
    path = tmp_path / "t.tar"
    names = ["sparse.jpg", "z.jpg"]
    subprocess.run(["tar", "-S", *options, "-C", tmp_path, "-cf", path, *names], check=True)
    sparse, other = walk(path)
    with tarfile.open(path) as archive:
        assert [m.name for m in archive] == names
        assert other.offset == archive.getmember("z.jpg").offset_data
    assert (sparse.name, other.name, other.damage) == ("sparse.jpg", "z.jpg", "")
    assert sparse.damage.startswith("stored as a sparse file")


def test_archives_one_behind_the_other_are_read_to_the_end(tmp_path):
    for number in (1, 2, 3):
        write(tmp_path / f"{number}.tar", [info(f"{number}.jpg", size=number)])
    path = tmp_path / "1.tar"
    subprocess.run(["tar", "-Af", path, tmp_path / "2.tar"], check=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "3.tar").read_bytes())
    assert of_walk(path) == of_tarfile(path)
    names = [e.name for e in walk(path)]
    assert names == ["1.jpg", "2.jpg", "3.jpg"]
    told = subprocess.run(["tar", "--ignore-zeros", "-tf", path], check=True, capture_output=True)
    assert told.stdout.decode().split() == names


def test_what_follows_the_end_of_an_archive_is_reported(tmp_path):
    path = tmp_path / "t.tar"
    write(path, [info("a.jpg", size=5)])
    end = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"garbage")
    photo, rest = walk(path)
    assert photo.name == "a.jpg"
    assert (rest.name, rest.length, rest.is_break) == (f"@{end}", 7, True)


@pytest.mark.parametrize("extra", [b"x", b"\0" * 100, b"y" * 3000])
@pytest.mark.parametrize("format", FORMATS)
def test_bytes_that_are_too_many_cost_only_what_they_are_in(tmp_path, extra, format):
    path = tmp_path / "t.tar"
    write(path, [info(f"{number}.jpg", size=2000) for number in range(5)], format)
    data = path.read_bytes()
    photo = walk(path)[2].offset + 1000
    path.write_bytes(data[:photo] + extra + data[photo:])
    assert [e.name for e in walk(path) if not e.damage] == [f"{n}.jpg" for n in range(5)]
    with open(path, "rb") as file:
        for entry in walk(path)[-2:]:
            file.seek(entry.offset)
            assert file.read(entry.length) == b"x" * 2000


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
def test_a_long_extension_header_is_not_read(tmp_path, kind):
    path = tmp_path / "t.tar"
    content = bytes(MAX_EXTENSION_BYTES + 1)
    path.write_bytes(raw(b"header", kind, content) + raw(b"a.jpg", data=b"photo"))
    header, photo = walk(path)
    assert header.damage.startswith(f"a tar header of {len(content)} bytes at byte 0")
    assert (photo.name, photo.damage) == ("a.jpg", "")


@pytest.mark.parametrize("kind", [b"0", b"L", b"x", b"S"])
@pytest.mark.parametrize(
    "size", [b"77777777777\0", b"\x80" + b"\xff" * 11, b"\x80" + bytes(6) + b"\xff" * 5]
)
def test_a_size_beyond_the_end_costs_nobody_else(tmp_path, kind, size):
    path = tmp_path / "t.tar"
    path.write_bytes(
        raw(b"a.jpg", data=b"a") + raw(b"liar.jpg", kind, size=size) + raw(b"b.jpg", data=b"b")
    )
    first, liar, last = walk(path)
    assert (first.name, first.damage, last.name, last.damage) == ("a.jpg", "", "b.jpg", "")
    assert liar.damage


@pytest.mark.parametrize(
    "content",
    [
        b"garbage",
        b"0 path=x\n",
        b"99999 path=x.jpg\n",
        b"11 path=x.jpg",
        b"18446744073709551616 path=x\n",
        b"-5 path=x\n",
        b" path=x\n",
        b"\0" * 600,
    ],
)
def test_a_damaged_pax_header_leaves_the_name_in_the_header(tmp_path, content):
    path = tmp_path / "t.tar"
    path.write_bytes(raw(b"pax", b"x", content) + raw(b"a.jpg", data=b"photo"))
    (photo,) = walk(path)
    assert (photo.name, photo.length, photo.damage) == ("a.jpg", 5, "")


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"5", b"6"])
def test_data_behind_what_has_none_is_passed(tmp_path, kind):
    path = tmp_path / "t.tar"
    header = raw(b"odd.jpg", kind, size=b"%011o\0" % 700)
    photo = raw(b"a.jpg", data=b"photo")
    for data in (b"", b"d" * 1024):
        path.write_bytes(header + data + photo)
        odd, found = walk(path)
        assert (found.name, found.damage) == ("a.jpg", "")
        assert odd.length == (700 if data else 0)
        # POSIX lets a hard link have the data of its file.
        assert (odd.kind is Kind.FILE) == (kind == b"1" and data != b"")


def test_the_rest_of_a_file_of_another_volume_is_named(tmp_path):
    path = tmp_path / "t.tar"
    path.write_bytes(raw(b"a.jpg", b"M", b"rest") + raw(b"b.jpg", data=b"b"))
    rest, photo = walk(path)
    assert "another volume" in rest.damage and photo.damage == ""


def test_a_tar_that_claims_terabytes_takes_no_time(tmp_path):
    path = tmp_path / "t.tar"
    with open(path, "wb") as file:
        file.write(raw(b"a.jpg", data=b"a"))
        file.seek(1 << 42)
        file.write(raw(b"b.jpg", data=b"b"))
        file.truncate(1 << 43)
    assert [e.name for e in walk(path)] == ["a.jpg", "b.jpg"]
