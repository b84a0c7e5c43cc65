import ctypes
import os
import tempfile
from pathlib import Path

import pytest

from transforms import storage
from transforms.storage import StorageError, local

NOBODY = 65534


def make_files(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def walked(root: Path, excluded: str | Path = "") -> list[str]:
    found = storage.walk(storage.Part(str(root)), str(excluded))
    return [os.path.relpath(file.path, root) for file in found]


def test_files_are_found_at_any_depth_in_a_fixed_order(tmp_path):
    make_files(tmp_path, "b/2.jpg", "b/1.jpg", "z.jpg", "a/deep/er/3.jpg", "B/4.jpg", "a.jpg")
    expected = ["a.jpg", "z.jpg", "B/4.jpg", "a/deep/er/3.jpg", "b/1.jpg", "b/2.jpg"]
    assert walked(tmp_path) == expected


def test_a_found_file_has_size_and_a_version_that_changes_with_the_file(tmp_path):
    make_files(tmp_path, "a.jpg")
    (before,) = storage.walk(storage.Part(str(tmp_path)))
    assert before.size == len("a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(1, 1))
    (after,) = storage.walk(storage.Part(str(tmp_path)))
    assert after.version != before.version


def test_the_excluded_folder_is_left_out_even_through_a_link(tmp_path):
    make_files(tmp_path, "in/1.jpg", "out/masks/2.png")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    assert walked(tmp_path, tmp_path / "out") == ["in/1.jpg"]


def test_without_an_excluded_folder_the_working_folder_is_walked_too(tmp_path, monkeypatch):
    make_files(tmp_path, "1.jpg")
    monkeypatch.chdir(tmp_path)
    assert walked(tmp_path) == ["1.jpg"]


def test_links_are_followed_and_cycles_end(tmp_path):
    make_files(tmp_path, "in/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "file.jpg").symlink_to(tmp_path / "in" / "1.jpg")
    assert walked(tmp_path / "in") == ["1.jpg", "file.jpg", "folder/2.jpg"]


def test_a_broken_link_is_found_and_fails_when_read(tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (found,) = storage.walk(storage.Part(str(tmp_path)))
    assert found.size == -1
    with pytest.raises(StorageError, match="No such file"):
        storage.read(found.path)


def test_a_folder_that_is_not_there_cannot_be_listed(tmp_path):
    with pytest.raises(StorageError, match="nowhere: cannot be listed"):
        list(storage.walk(storage.Part(str(tmp_path / "nowhere"))))


@pytest.fixture
def unprivileged():
    """A folder of a user whom permissions bind, while the test accesses files as that user.

    `setfsuid` changes this thread alone. `seteuid` would change all threads of the process, and
    ends it where libraries have left some that do not answer.
    """
    root = os.geteuid() == 0
    library = ctypes.CDLL(None)
    with tempfile.TemporaryDirectory() as folder:
        if root:
            os.chown(folder, NOBODY, NOBODY)
            library.setfsuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            if root:
                library.setfsuid(0)


def test_a_folder_below_that_may_not_be_listed_is_found_closed(unprivileged):
    make_files(unprivileged, "open/1.jpg", "closed/2.jpg")
    (unprivileged / "closed").chmod(0)
    found = list(storage.walk(storage.Part(str(unprivileged))))
    assert [os.path.relpath(f.path, unprivileged) for f in found] == ["open/1.jpg", "closed"]
    assert [f.closed for f in found] == [False, True]
    with pytest.raises(StorageError, match="closed: cannot be listed"):
        list(storage.walk(storage.Part(str(unprivileged / "closed"))))
    (unprivileged / "closed").chmod(0o700)


def test_a_file_that_may_not_be_read_says_so(unprivileged):
    make_files(unprivileged, "a.jpg")
    (unprivileged / "a.jpg").chmod(0)
    with pytest.raises(StorageError, match="cannot be read: Permission denied"):
        storage.read(str(unprivileged / "a.jpg"))


def test_a_folder_that_may_not_be_written_to_says_so(unprivileged):
    make_files(unprivileged, "masks/old.png")
    (unprivileged / "masks").chmod(0o500)
    with pytest.raises(StorageError, match="new.png: cannot be written: Permission denied"):
        storage.write(str(unprivileged), "masks/new.png", b"data")
    assert os.listdir(unprivileged / "masks") == ["old.png"]
    (unprivileged / "masks").chmod(0o700)


def test_a_glob_finds_files_of_any_depth_but_neither_folders_nor_hidden_files(tmp_path):
    make_files(tmp_path, "b.jpg", "a/1.jpg", "a/.hidden.jpg", "a/x.txt", "folder.jpg/2.jpg")
    found = storage.matching(f"{tmp_path}/**/*.jpg")
    paths = [os.path.relpath(f.path, tmp_path) for f in found]
    assert paths == ["a/1.jpg", "b.jpg", "folder.jpg/2.jpg"]


def test_a_file_is_read_whole_or_in_a_range(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(100)))
    assert storage.read(str(path)) == bytes(range(100))
    assert storage.read(str(path), 10, 5) == bytes(range(10, 15))
    assert storage.read(str(path), 95, 5) == bytes(range(95, 100))
    assert storage.read(str(path), 100, 0) == b""


@pytest.mark.parametrize(("offset", "length", "left"), [(95, 6, 5), (100, 1, 0), (5000, 3, 0)])
def test_reading_past_the_end_says_what_is_missing(tmp_path, offset, length, left):
    path = tmp_path / "a"
    path.write_bytes(bytes(100))
    message = f"{length} bytes expected at byte {offset}, the file ends after {left}"
    with pytest.raises(StorageError, match=message):
        storage.read(str(path), offset, length)


def test_a_file_is_read_in_the_version_that_is_asked_for_or_not_at_all(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"as it was listed")
    version = storage.find(str(path)).version
    assert storage.read(str(path), version=version) == b"as it was listed"
    assert storage.read(str(path), 3, 2, version) == b"it"
    path.write_bytes(b"of the same size")
    os.utime(path, ns=(0, 0))
    with pytest.raises(StorageError, match=f"changed since it was listed: version {version} expec"):
        storage.read(str(path), version=version)
    path.write_bytes(b"short")
    with pytest.raises(StorageError, match="changed since it was listed"):
        storage.read(str(path), 3, 10, version)


def test_what_cannot_be_read_says_why(tmp_path):
    with pytest.raises(StorageError, match="cannot be read: No such file or directory"):
        storage.read(str(tmp_path / "deleted.jpg"))
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(StorageError, match="cannot be read: Is a directory"):
        storage.read(str(tmp_path / "folder.jpg"))
    with pytest.raises(StorageError, match="cannot be read: .*null byte"):
        storage.read("a\0.jpg")


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs Linux")
def test_a_failing_device_is_a_storage_error():
    # The memory of a process reads as an I/O error at address 0, as a bad disk does.
    with pytest.raises(StorageError, match="cannot be read: Input/output error"):
        storage.read("/proc/self/mem", 0, 10)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(StorageError, match="neither a file nor a link to one"):
        storage.read(str(tmp_path / "pipe.jpg"))


def test_a_path_that_cannot_exist_is_found_without_a_size():
    assert storage.find("a\0.jpg").size == -1
    assert storage.find("a" * 5000).size == -1


def unfinished(root) -> list[str]:
    return os.listdir(root / storage.UNFINISHED)


def test_writing_makes_the_folders_and_replaces_the_file(tmp_path):
    for data in (b"first", b"second"):
        storage.write(str(tmp_path), "a/b/mask.png", data)
        assert (tmp_path / "a" / "b" / "mask.png").read_bytes() == data
    assert os.listdir(tmp_path / "a" / "b") == ["mask.png"]
    assert unfinished(tmp_path) == []


@pytest.mark.parametrize("name", ["a" * 256, "taken"])
def test_a_failed_write_leaves_nothing_behind(tmp_path, name):
    (tmp_path / "taken" / "by a folder").mkdir(parents=True)
    with pytest.raises(StorageError, match=f"{name}: cannot be written"):
        storage.write(str(tmp_path), name, b"data")
    assert sorted(os.listdir(tmp_path)) == [storage.WORK_FOLDER, "taken"]
    assert unfinished(tmp_path) == []


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "mask.png").write_bytes(b"old")
    with pytest.raises(TypeError):
        storage.write(str(tmp_path), "mask.png", "not bytes")
    assert (tmp_path / "mask.png").read_bytes() == b"old"
    assert unfinished(tmp_path) == []


def test_a_file_that_is_written_bit_by_bit_is_there_once_it_is_whole(tmp_path):
    with storage.writing(str(tmp_path), "a/1.json") as file:
        file.write(b"[1,")
        assert not (tmp_path / "a/1.json").exists()
        file.write(b"2]")
    assert (tmp_path / "a/1.json").read_bytes() == b"[1,2]"


def test_writing_that_fails_halfway_leaves_the_old_file_and_nothing_else(tmp_path):
    storage.write(str(tmp_path), "a/1.json", b"old")
    with pytest.raises(ZeroDivisionError), storage.writing(str(tmp_path), "a/1.json") as file:
        file.write(b"[1," + bytes(1 // 0))
    assert [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()] == [b"old"]


def test_what_a_killed_process_left_unfinished_is_removed(tmp_path):
    storage.write(str(tmp_path), "mask.png", b"data")
    (tmp_path / storage.UNFINISHED / "0123").write_bytes(b"da")
    assert storage.remove_unfinished(str(tmp_path)) == 1
    assert unfinished(tmp_path) == []
    assert (tmp_path / "mask.png").read_bytes() == b"data"
    assert storage.remove_unfinished(str(tmp_path / "new")) == 0


def test_a_folder_that_a_killed_process_left_unfinished_is_removed(tmp_path):
    make_files(tmp_path, f"{storage.UNFINISHED}/statistics/1.parquet", "kept.parquet")
    (tmp_path / storage.UNFINISHED / "link").symlink_to(tmp_path)
    assert storage.remove_unfinished(str(tmp_path)) == 2
    assert unfinished(tmp_path) == []
    assert (tmp_path / "kept.parquet").exists()


def test_two_folders_change_places(tmp_path):
    make_files(tmp_path, "a/1", "b/deep/2")
    local.exchange(str(tmp_path / "a"), str(tmp_path / "b" / "deep"))
    assert (os.listdir(tmp_path / "a"), os.listdir(tmp_path / "b" / "deep")) == (["2"], ["1"])


def test_folders_that_cannot_change_places_stay_where_they_are(tmp_path):
    make_files(tmp_path, "a/1")
    with pytest.raises(StorageError, match="b: this file system cannot exchange .*: No such file"):
        local.exchange(str(tmp_path / "a"), str(tmp_path / "b"))
    assert os.listdir(tmp_path) == ["a"]


def test_a_system_without_an_exchange_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    with pytest.raises(StorageError, match="this system cannot exchange two folders in one step"):
        local.exchange(str(tmp_path / "a"), str(tmp_path / "b"))
