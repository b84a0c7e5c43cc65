"""An outage of storage: no photo comes into quarantine, none is called removed, and it is told."""

import errno
import os
from collections.abc import Callable

import pytest

from tests.faults.archives import photo_bytes
from tests.faults.injecting import BOUND
from tests.faults.runs import finish, start
from tests.gcs_server import GcsServer, RefusedError
from tests.memory_store import MemoryStore, registered
from tests.shard_files import write_tar
from transforms import storage
from transforms.segmenting import outages
from transforms.storage import StorageError
from transforms.storage.gcs_client import Patience

ROOT = "memory://town"
BUCKET = "town"
PHOTOS = 12


class FailingStore(MemoryStore):
    """A store of which some files cannot be read."""

    fails: Callable[[str], bool] = staticmethod(lambda path: False)

    def read(self, path: str, offset: int, length: int | None, version: str) -> bytes:
        if self.fails(path):
            error = OSError(errno.EIO, os.strerror(errno.EIO))
            raise StorageError(f"cannot be read: {error.strerror}") from error
        return super().read(path, offset, length, version)


@pytest.fixture
def store():
    with registered("memory", FailingStore()) as store:
        for number in range(PHOTOS):
            storage.write(ROOT, f"photos/{number:02}.png", photo_bytes(number))
        yield store


@pytest.fixture
def run(citymask, tiny_model, output):
    """A function that runs over photos and expects an exit code."""

    def run(*options, inputs: str = f"{ROOT}/photos", code: int = 0):
        result = citymask("run", inputs, "-o", output.path, "--model", tiny_model, *options)
        assert result.exit_code == code, result.output
        return result

    return run


def numbers(*wanted: int) -> Callable[[str], bool]:
    """A choice of photos."""
    return lambda path: path.endswith(tuple(f"/photos/{number:02}.png" for number in wanted))


def test_a_night_of_it_ends_with_3_and_brings_no_photo_into_quarantine(store, run, output):
    store.fails = numbers(*range(0, PHOTOS, 2))
    result = run("--max-attempts", 1, code=3)
    assert "Error: 6 images could not be read for reasons of storage" in result.output
    assert set(output.failures["attempts"]) == {0}
    assert set(output.failures["error"]) == {"StorageError"}
    store.fails = numbers()
    run("--max-attempts", 1)
    assert len(output.rows) == PHOTOS
    assert output.runs[-1]["images"]["quarantined"] == 0


def test_one_photo_that_cannot_be_read_is_a_failure_of_its_own(store, run, output):
    store.fails = numbers(3)
    for _ in range(2):
        run("--max-attempts", 1)
    assert set(output.failures["attempts"]) == {0}
    assert len(output.rows) == PHOTOS - 1


def test_a_run_whose_reads_fail_leaves_the_rest(store, run, output, monkeypatch):
    monkeypatch.setattr(outages, "MOST_FAILED", 3)
    store.fails = numbers(*range(2, PHOTOS))
    result = run("--unit-size", 1, code=3)
    (record,) = output.runs
    assert record["interrupted"] == "storage_errors"
    assert output.summary["interrupted"]["reason"] == "storage_errors"
    assert record["images"]["left"] > 0
    assert f"{record['images']['left']} are left; the next run tries" in result.output
    store.fails = numbers()
    run()
    assert len(output.rows) == PHOTOS


class TestCloudStorage:
    @pytest.fixture
    def server(self, cloud_storage_at):
        with GcsServer() as server, cloud_storage_at(server.url, Patience(retry_seconds=0.2)):
            for number in range(4):
                server.put(BUCKET, f"photos/{number}.png", photo_bytes(number))
            yield server

    @pytest.mark.parametrize("status", [401, 403, 503])
    def test_that_refuses_all_photos_counts_against_none(self, server, run, output, status):
        def refuse(method: str, name: str) -> None:
            if name.startswith("photos/"):
                raise RefusedError(status, "not now")

        server.before = refuse
        run("--max-attempts", 1, inputs=f"gs://{BUCKET}/photos", code=3)
        assert set(output.failures["attempts"]) == {0}
        server.before = lambda method, name: None
        run("--max-attempts", 1, inputs=f"gs://{BUCKET}/photos")
        assert len(output.rows) == 4

    def test_that_refuses_a_shard_removes_no_member(self, server, run, output):
        write_tar(output.path.parent / "a.tar", [("1.png", photo_bytes(9))])
        server.put(BUCKET, "photos/a.tar", (output.path.parent / "a.tar").read_bytes())
        run(inputs=f"gs://{BUCKET}/photos")

        def refuse(method: str, name: str) -> None:
            if name == "photos/a.tar" and refuses:
                raise RefusedError(503, "not now")

        refuses, server.before = True, refuse
        run("--max-attempts", 1, inputs=f"gs://{BUCKET}/photos")
        assert (output.path / "removed.csv").read_text().count("\n") == 1
        assert set(output.failures["attempts"]) == {0}
        refuses = False
        del server.buckets[BUCKET]["photos/a.tar"]
        run(inputs=f"gs://{BUCKET}/photos")
        assert "a.tar/1.png" in (output.path / "removed.csv").read_text()

    def test_that_refuses_all_ends_the_run_with_2(self, server, run):
        server.forbidden.add(BUCKET)
        result = run(inputs=f"gs://{BUCKET}/photos", code=2)
        assert "no permission" in result.output


def test_permissions_that_are_withdrawn_remove_no_image(run, output, tmp_path, tiny_model):
    folder = tmp_path / "photos"
    for number in range(3):
        storage.write(str(folder), f"{number}/a.png", photo_bytes(number))
    run(inputs=str(folder))
    (folder / "0").chmod(0o000)
    (folder / "1").chmod(0o600)
    line = ["run", folder, "-o", output.path, "--model", tiny_model, "--max-attempts", 1]
    try:
        code = finish(start(line, tmp_path / "log", cold=BOUND))
    finally:
        for closed in ("0", "1"):
            (folder / closed).chmod(0o755)
    assert code == 0, (tmp_path / "log").read_text()
    assert (output.path / "removed.csv").read_text().count("\n") == 1
    assert set(output.failures["attempts"]) == {0}


class GoneStore(MemoryStore):
    """Photos that are listed, and gone when they are read."""

    def read(self, path: str, offset: int, length: int | None, version: str) -> bytes:
        raise storage.MissingError("cannot be read: no such file")


def test_a_mount_that_is_gone_while_photos_are_read_counts_against_none(run, output):
    with registered("memory", GoneStore()):
        for number in range(3):
            storage.write(ROOT, f"photos/{number}.png", photo_bytes(number))
        run(code=3)
    assert set(output.failures["error"]) == {"MissingError"}
    assert set(output.failures["attempts"]) == {0}
