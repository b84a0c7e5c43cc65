"""What becomes of everything that is in a container: rows, failures, and what is passed over."""

import io
import json
import os
import tarfile

import pytest
from PIL import Image

from tests.peak_memory import peak_memory
from tests.shard_files import write_photo_records, write_tar

KIB = 1 << 10


@pytest.fixture
def photo(make_photo, tmp_path) -> bytes:
    return make_photo(tmp_path / "made.jpg").read_bytes()


def test_every_member_of_a_tar_is_a_row_a_failure_or_passed_over(run, output, tmp_path, photo):
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind, data, link in [
            ("a.jpg", tarfile.REGTYPE, photo, ""),
            ("a.json", tarfile.REGTYPE, b'{"latitude": 49.5, "longitude": 6.5}', ""),
            ("a.seg.png", tarfile.REGTYPE, b"label", ""),
            ("b.jpg", tarfile.SYMTYPE, b"", "./a.jpg"),
            ("b.json", tarfile.REGTYPE, b"no JSON", ""),
            ("c.jpg", tarfile.LNKTYPE, b"", "a.jpg"),
            ("gone.jpg", tarfile.SYMTYPE, b"", "/far/away.jpg"),
            ("pipe.jpg", tarfile.FIFOTYPE, b"", ""),
            ("empty.jpg", tarfile.REGTYPE, b"", ""),
            ("notes.txt", tarfile.REGTYPE, b"notes", ""),
            ("folder.jpg", tarfile.DIRTYPE, b"", ""),
            ("folder.jpg/d.jpg", tarfile.REGTYPE, photo, ""),
        ]:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(data), link
            archive.addfile(entry, io.BytesIO(data))
    printed = run(inputs=[path]).output
    assert list(output.rows["image"]) == [
        f"t.tar/{name}" for name in ("a.jpg", "b.jpg", "c.jpg", "folder.jpg/d.jpg")
    ]
    assert output.rows["latitude"].dropna().to_dict() == {"t.tar/a.jpg": 49.5}
    assert list(output.failures["image"]) == [
        f"t.tar/{name}" for name in ("empty.jpg", "gone.jpg", "pipe.jpg")
    ]
    assert output.runs[0]["passed_over"] == {
        "folder": 1,
        "label of a photo": 1,
        "metadata that are no JSON object": 1,
        "not an image": 1,
    }
    assert "4 other files ignored (1 folder, 1 label of a photo, " in printed.replace("\n", " ")


def test_further_photos_of_a_file_are_counted_as_passed_over(run, output, tmp_path, photo):
    folder = tmp_path / "several"
    folder.mkdir()
    turned = Image.open(io.BytesIO(photo)).rotate(180)
    for name, kind, others in [
        ("stereo_and_preview.jpg", "MPO", [turned.copy(), turned.reduce(4)]),
        ("three_pages.tif", "TIFF", [turned.copy(), turned.reduce(4)]),
        ("moving.gif", "GIF", [turned.rotate(90)]),
    ]:
        turned.copy().save(folder / name, kind, save_all=True, append_images=others)
    printed = run(inputs=[folder]).output
    assert len(output.rows) == 3
    assert output.runs[0]["passed_over"] == {"further photo of a file": 3}
    assert "3 other files ignored (3 further photo of a file)" in printed.replace("\n", " ")


def test_a_photo_of_more_bytes_than_allowed_fails_unread(run, output, tmp_path, photo):
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "small.jpg").write_bytes(photo)
    large = photo + bytes(64 * KIB)
    (folder / "large.jpg").write_bytes(large)
    (folder / "list.csv").write_text("uri\nlarge.jpg\n")
    with open(folder / "sparse.jpg", "wb") as file:
        file.truncate(1 << 42)
    write_tar(folder / "t.tar", [("small.jpg", photo), ("large.jpg", large)])
    write_photo_records(folder / "t.tfrecord", {"small.jpg": photo, "large.jpg": large})
    inputs = [folder, folder / "list.csv", f"{folder}/lar*.jpg"]
    run("--max-bytes", 32 * KIB, inputs=inputs)
    assert list(output.rows["image"]) == ["small.jpg", "t.tar/small.jpg", "t.tfrecord/small.jpg"]
    messages = output.failures["message"].to_dict()
    assert set(messages) == {"large.jpg", "sparse.jpg", "t.tar/large.jpg", "t.tfrecord/large.jpg"}
    for image, size in (("large.jpg", len(large)), ("sparse.jpg", 1 << 42)):
        assert messages[image] == (
            f"{size} bytes are more than the limit of {32 * KIB}; "
            "raise --max-bytes if the photo is genuine"
        )
    (folder / "sparse.jpg").unlink()
    run("--max-bytes", 128 * KIB, inputs=inputs)
    assert len(output.rows) == 6


def test_many_large_photos_are_read_one_after_the_other(run, output, tmp_path, photo):
    folder = tmp_path / "large"
    folder.mkdir()
    for number in range(6):
        with open(folder / f"{number}.jpg", "wb") as file:
            file.write(photo)
            file.truncate(150 << 20)
    run(inputs=[folder / "0.jpg"])
    with peak_memory() as peak:
        run("--overlay", inputs=[folder])
    assert len(output.rows) == 6
    assert not peak or peak[0] < 400 << 20


def test_sizes_that_claim_terabytes_cost_no_memory(run, output, tmp_path, photo):
    path = tmp_path / "t.tar"
    write_tar(path, [("a.jpg", photo), ("z.jpg", photo)])
    data = bytearray(path.read_bytes())
    with open(path, "wb") as file:
        file.write(data.rstrip(b"\0"))
        file.seek(-file.tell() % tarfile.BLOCKSIZE, os.SEEK_CUR)
        for name, kind in (("b.jpg", b"0"), ("b.json", b"0"), ("pax", b"x"), ("long", b"L")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = kind, 6 << 30
            file.write(entry.tobuf(tarfile.GNU_FORMAT))
            file.seek(6 << 30, os.SEEK_CUR)
        last = tarfile.TarInfo("c.jpg")
        last.size = len(photo)
        file.write(last.tobuf() + photo)
        file.truncate(1 << 42)
    run(inputs=[path])
    assert {"t.tar/a.jpg", "t.tar/c.jpg"} <= set(output.rows["image"])
    assert "t.tar/b.jpg" in output.failures["image"]
    assert any("a tar header of 6442450944 bytes" in text for text in output.failures["message"])
    assert output.runs[0]["passed_over"] == {"metadata of more than 1048576 bytes or 1000 keys": 1}


def test_photos_that_each_bring_other_metadata_are_done(run, output, tmp_path, photo):
    members = []
    for number in range(24):
        about = {f"key {number} {other}": other for other in range(100)}
        members += [(f"{number}.jpg", photo), (f"{number}.json", json.dumps(about).encode())]
    run(inputs=[write_tar(tmp_path / "t.tar", members)])
    rows = output.rows
    assert len(rows) == 24 and len(rows.columns) < 1100
    further = json.loads(rows["further_metadata"]["t.tar/23.jpg"])
    assert further == {f"key 23 {other}": other for other in range(100)}


def test_names_in_a_shard_never_lead_out_of_the_output_folder(run, output, tmp_path, photo):
    names = [
        *("a.jpg", "./a.jpg", "/a.jpg", "../a.jpg", "x/../../a.jpg", "C:/a.jpg", "C:\\a.jpg"),
        *("line\nbreak.jpg", "nul\0.jpg", " .jpg", "\u202egpj.jpg", os.fsdecode(b"\xff\xfe.jpg")),
        *("n" * 100_000 + ".jpg", "d/" * 50_000 + "a.jpg", "a" * 300 + "/b.jpg"),
        "/" + "..//" * 20 + "etc/a.jpg",
    ]
    path = tmp_path / "in" / "t.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        for name in names:
            entry = tarfile.TarInfo("x.jpg")
            entry.size = len(photo)
            entry.pax_headers = {"path": name}
            archive.addfile(entry, io.BytesIO(photo))
    before = set(tmp_path.rglob("*"))
    run(inputs=[path])
    assert len(output.rows) == len(names) and output.failures.empty
    assert sorted(output.rows["mask"]) == output.masks and len(output.masks) == len(names)
    assert {entry.relative_to(tmp_path).parts[0] for entry in {*tmp_path.rglob("*")} - before} == {
        "out"
    }
