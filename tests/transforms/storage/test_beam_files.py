"""Stores that Beam has file systems for: what is read from there, and that nothing is written."""

import os

import pytest

from tests.shelf import ShelfFileSystem
from transforms import storage
from transforms.storage import AccessError, Part, StorageError

PHOTOS = "shelf://photos"


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    """The local folder that the shelf is, with a few files."""
    monkeypatch.setattr(ShelfFileSystem, "folder", str(tmp_path))
    for name in ("b.jpg", "a.jpg", "lund/1.jpg", "lund/deep/2.jpg", "[1]/a*?.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def names(found) -> list[str]:
    return [file.path.removeprefix(PHOTOS + "/") for file in found]


def test_a_folder_is_listed_as_a_whole_or_alone_in_a_fixed_order():
    assert list(storage.parts(PHOTOS)) == [Part(PHOTOS)]
    everything = ["[1]/a*?.jpg", "a.jpg", "b.jpg", "lund/1.jpg", "lund/deep/2.jpg"]
    assert names(storage.walk(Part(PHOTOS))) == everything
    assert names(storage.walk(Part(PHOTOS, deep=False))) == ["a.jpg", "b.jpg"]


def test_names_that_look_like_patterns_are_names():
    folder = f"{PHOTOS}/[1]"
    assert storage.is_folder(folder)
    (found,) = storage.walk(Part(folder))
    assert found == storage.find(f"{folder}/a*?.jpg")
    assert storage.read(found.path, version=found.version) == b"[1]/a*?.jpg"


def test_a_folder_is_what_has_files_below_it():
    assert storage.is_folder(f"{PHOTOS}/lund")
    assert not storage.is_folder(f"{PHOTOS}/malmo")
    assert not storage.is_folder(f"{PHOTOS}/a.jpg")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg", "b.jpg"]),
        ("lund/**", ["lund/1.jpg", "lund/deep/2.jpg"]),
        ("*/1.jpg", ["lund/1.jpg"]),
    ],
)
def test_a_glob_follows_the_rules_of_beam(pattern, expected):
    assert names(storage.matching(f"{PHOTOS}/{pattern}")) == expected


def test_a_found_file_has_size_and_a_version_that_changes_with_the_file(shelf):
    found = storage.find(f"{PHOTOS}/a.jpg")
    assert found.size == len("a.jpg")
    os.utime(shelf / "photos" / "a.jpg", ns=(1, 1))
    assert storage.find(f"{PHOTOS}/a.jpg").version != found.version
    assert storage.find(f"{PHOTOS}/gone.jpg").size == -1


def test_a_file_is_read_whole_or_in_a_range():
    path = f"{PHOTOS}/lund/1.jpg"
    assert storage.read(path) == b"lund/1.jpg"
    assert storage.read(path, 5, 3) == b"1.j"
    with pytest.raises(StorageError, match="5 bytes expected at byte 8, the file ends after 2"):
        storage.read(path, 8, 5)


def test_a_compressed_file_is_read_as_it_is(shelf):
    (shelf / "photos" / "a.tar.gz").write_bytes(b"not unpacked")
    assert storage.read(f"{PHOTOS}/a.tar.gz") == b"not unpacked"


def test_a_file_is_read_in_the_version_that_is_asked_for_or_not_at_all(shelf):
    path = f"{PHOTOS}/a.jpg"
    version = storage.find(path).version
    assert storage.read(path, version=version) == b"a.jpg"
    os.utime(shelf / "photos" / "a.jpg", ns=(1, 1))
    with pytest.raises(StorageError, match=f"changed since it was listed: version {version} exp"):
        storage.read(path, version=version)


def test_an_open_file_can_be_sought_in():
    with storage.open_file(f"{PHOTOS}/lund/1.jpg") as file:
        assert file.seek(-3, os.SEEK_END) == 7
        assert file.read() == b"jpg"


@pytest.mark.parametrize("reading", [storage.read, storage.open_file])
def test_what_is_not_there_says_so_in_one_line(reading):
    with pytest.raises(StorageError, match="cannot be read: .*No such file") as caught:
        reading(f"{PHOTOS}/gone.jpg")
    assert "\n" not in str(caught.value)


def test_a_store_that_beam_does_not_know_is_refused_in_one_line():
    with pytest.raises(AccessError, match=r"nowhere://a/\*\*: Unable to get filesystem") as caught:
        storage.is_folder("nowhere://a")
    assert "\n" not in str(caught.value)


def test_nothing_is_written_there(shelf):
    with pytest.raises(StorageError, match="shelf://photos: OUT is a local folder or gs://BUCKET/"):
        storage.check_writable(PHOTOS)
    for change in (
        lambda: storage.write(PHOTOS, "new.png", b"mask"),
        lambda: storage.remove(PHOTOS, "a.jpg"),
        lambda: storage.move(PHOTOS, "a.jpg", "c.jpg"),
    ):
        with pytest.raises(StorageError, match="files in this store can be read, not written"):
            change()
    assert sorted(os.listdir(shelf / "photos")) == ["[1]", "a.jpg", "b.jpg", "lund"]
