"""What every store promises to those that write results to it: the same tests for all of them."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from tests.gcs_server import GcsServer
from tests.memory_store import MemoryStore, registered
from transforms import storage
from transforms.output.locking import LockedError, OutputLock, Pulse, holder
from transforms.storage import ChangedError, MissingError, StorageError

PULSE = Pulse(seconds=0.05, missing=1200)
"""A fast heartbeat, and owners that nobody takes for dead."""


@pytest.fixture
def local(tmp_path) -> str:
    return str(tmp_path / "town")


@pytest.fixture
def memory():
    with registered("memory", MemoryStore()):
        yield "memory://town"


@pytest.fixture
def gcs(cloud_storage_at):
    with GcsServer(buckets={"town": {}}) as server, cloud_storage_at(server.url):
        yield "gs://town/a"


@pytest.fixture(params=["local", "memory", "gcs"])
def root(request) -> str:
    """A folder that is not there yet; a new store adds a fixture like those above."""
    return request.getfixturevalue(request.param)


def fill(root: str, *names: str) -> None:
    for name in names:
        storage.write(root, name, name.encode())


def walked(root: str, excluded: str = "") -> list[str]:
    found = (file for part in storage.parts(root) for file in storage.walk(part, excluded))
    return sorted(file.path.removeprefix(f"{root}/") for file in found)


def test_results_can_be_written_there(root):
    storage.check_writable(root)
    assert storage.absolute(f"{root}/") == root


def test_a_folder_is_there_once_a_file_is_below_it(root):
    assert not storage.is_folder(f"{root}/lund")
    fill(root, "lund/deep/1.jpg")
    assert storage.is_folder(root) and storage.is_folder(f"{root}/lund")
    assert not storage.is_folder(f"{root}/lun")


def test_every_file_is_listed_once_but_for_those_left_out(root):
    fill(root, "1.jpg", "lund/2.jpg", "lund/deep/3.jpg", "out/masks/4.png", "outside/5.jpg")
    expected = ["1.jpg", "lund/2.jpg", "lund/deep/3.jpg", "outside/5.jpg"]
    assert [name for name in walked(root, f"{root}/out") if not name.startswith(".")] == expected
    assert storage.is_below(f"{root}/out/masks/4.png", f"{root}/out")
    assert not storage.is_below(f"{root}/outside/5.jpg", f"{root}/out")
    folders = {os.path.basename(folder) for folder in storage.folders(root)}
    assert folders - {storage.WORK_FOLDER} == {"lund", "out", "outside"}


def test_a_folder_alone_is_listed_without_those_below_it(root):
    fill(root, "runs/b.json", "runs/a.json", "runs/.hidden.json", "runs/old/c.json", "runs/x")
    found = storage.list_folder(f"{root}/runs", ".json")
    assert [os.path.basename(file.path) for file in found] == ["a.json", "b.json"]
    assert storage.list_folder(f"{root}/nowhere") == []


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["1.jpg"]),
        ("**/*.jpg", ["1.jpg", "lund/2.jpg", "lund/deep/3.jpg"]),
        ("*/?.jpg", ["lund/2.jpg"]),
    ],
)
def test_a_pattern_finds_files(root, pattern, expected):
    fill(root, "1.jpg", "lund/2.jpg", "lund/deep/3.jpg", "lund/4.png")
    found = [file.path.removeprefix(f"{root}/") for file in storage.matching(f"{root}/{pattern}")]
    assert found == expected


def test_a_file_is_read_whole_or_in_a_range_and_can_be_sought_in(root):
    storage.write(root, "a.tar", bytes(range(100)))
    assert storage.exists(f"{root}/a.tar")
    assert storage.read(f"{root}/a.tar") == bytes(range(100))
    assert storage.read(f"{root}/a.tar", 10, 5) == bytes(range(10, 15))
    with pytest.raises(StorageError, match="6 bytes expected at byte 95, the file ends after 5"):
        storage.read(f"{root}/a.tar", 95, 6)
    with storage.open_file(f"{root}/a.tar") as file:
        assert file.seek(-5, os.SEEK_END) == 95
        assert file.read(10) == bytes(range(95, 100))


def test_a_file_that_is_not_there_is_missing(root):
    found = storage.find(f"{root}/gone.jpg")
    assert found.size == -1 and not storage.exists(found.path)
    with pytest.raises(MissingError, match="cannot be read: "):
        storage.read(found.path)


def test_a_file_is_read_in_the_version_that_was_listed_or_not_at_all(root):
    fill(root, "a.jpg")
    found = storage.find(f"{root}/a.jpg")
    changed = storage.modified_at(found.version)
    assert changed and abs(changed.timestamp() - time.time()) < 60
    assert storage.read(found.path, version=found.version) == b"a.jpg"
    storage.write(root, "a.jpg", b"something else")
    with pytest.raises(ChangedError, match=f"version {found.version} expected"):
        storage.read(found.path, version=found.version)


def test_a_write_replaces_a_file_and_one_that_fails_changes_nothing(root):
    fill(root, "1.json")
    storage.write(root, "1.json", b"new")
    with pytest.raises(ZeroDivisionError), storage.writing(root, "1.json") as file:
        file.write(b"[1," + bytes(1 // 0))
    assert storage.read(f"{root}/1.json") == b"new"
    with storage.writing(root, "1.json") as file:
        file.write(b"[1,")
        file.write(b"2]")
    assert storage.read(f"{root}/1.json") == b"[1,2]"
    assert storage.remove_unfinished(root) == 0


def test_files_and_folders_are_removed_and_moved(root):
    fill(root, "1", "2", "a/3", "a/b/4", "ab")
    storage.remove(root, "1")
    storage.remove(root, "a")
    storage.move(root, "2", "aside/2")
    assert [name for name in walked(root) if not name.startswith(".")] == ["ab", "aside/2"]
    assert storage.read(f"{root}/aside/2") == b"2"


def test_a_lock_has_one_owner_and_names_it(root):
    first, second = (OutputLock(root, run_id, PULSE) for run_id in ("one", "two"))
    first.acquire()
    assert holder(root).run_id == "one"
    with pytest.raises(LockedError, match=f"{root}: run one .* holds this folder"):
        second.acquire()
    first.release()
    assert holder(root) is None
    again = OutputLock(root, "two", PULSE)
    again.acquire()
    assert holder(root).run_id == "two"
    again.release()


def test_of_several_that_want_a_free_lock_one_gets_it(root):
    together = Barrier(4)
    locks = [OutputLock(root, f"run-{number}", PULSE) for number in range(4)]

    def take(lock: OutputLock) -> bool:
        together.wait()
        try:
            lock.acquire()
        except LockedError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(take, locks))
    assert sum(taken) == 1
    locks[taken.index(True)].release()
