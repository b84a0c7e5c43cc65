"""`citymask run` from a store in memory to a store in memory, as a new store would be tried."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.faults.archives import photo_bytes
from tests.made_models import make_model
from tests.memory_store import MemoryStore, registered
from tests.same_results import assert_same_results
from transforms import storage
from transforms.output.locking import OutputLock, Pulse, holder

ROOT = "memory://town"
OUT = f"{ROOT}/out"


def put_photos(root: str) -> None:
    """Photos in folders and a shard, and a manifest."""
    for seed, name in enumerate(["top.png", "lund/1.png", "lund/2.png", "listed/3.png"]):
        storage.write(root, f"photos/{name}", photo_bytes(seed))
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as archive:
        entry = tarfile.TarInfo("4.png")
        entry.size = len(photo_bytes(4))
        archive.addfile(entry, io.BytesIO(photo_bytes(4)))
    storage.write(root, "photos/a.tar", shard.getvalue())
    storage.write(root, "list.csv", b"uri,heading\nphotos/listed/3.png,90\n")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny").path


@pytest.fixture
def store():
    with registered("memory", MemoryStore()) as store:
        yield store


@pytest.fixture
def run(citymask, model):
    """A function that runs over the photos below a root, which it puts there if there are none."""

    def run(root: str, output: str, *options: object, code: int = 0):
        if not storage.is_folder(f"{root}/photos"):
            put_photos(root)
        inputs = [f"{root}/photos", f"{root}/list.csv", f"{root}/photos/*.png"]
        result = citymask("run", *inputs, "-o", output, "--model", model, *options)
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def fetched(tmp_path, output_at):
    """A function that copies the output folder to a local disk."""

    def fetch():
        for file in storage.walk(storage.Part(OUT)):
            name = file.path.removeprefix(f"{OUT}/")
            storage.write(str(tmp_path / "fetched"), name, storage.read(file.path))
        return output_at(tmp_path / "fetched")

    return fetch


def test_a_run_gives_what_it_gives_on_local_files(store, run, fetched, tmp_path, output_at):
    run(ROOT, OUT)
    run(str(tmp_path), str(tmp_path / "out"))
    found, expected = fetched(), output_at(tmp_path / "out")
    assert_same_results(found, expected)
    assert holder(OUT) is None


def test_a_second_run_finds_all_done_and_verification_finds_nothing(store, run, citymask):
    run(ROOT, OUT)
    masks = {path: stored for path, stored in store.stored.items() if "/masks/" in path}
    assert "nothing new" in run(ROOT, OUT).output
    assert masks.items() <= store.stored.items()
    verified = citymask("verify", OUT)
    assert verified.exit_code == 0, verified.output
    assert f"{len(masks)} masks and {len(masks)} rows are whole" in verified.output


def test_exports_and_the_report_are_written_there(store, run, citymask):
    run(ROOT, OUT)
    for command in (("export", OUT, "--format", "coco-panoptic"), ("report", OUT)):
        result = citymask(*command)
        assert result.exit_code == 0, result.output
    data = json.loads(storage.read(f"{OUT}/exports/coco-panoptic/panoptic.json"))
    masks = [path for path in store.stored if "/masks/" in path]
    assert len(data["images"]) == len(masks)
    assert not storage.exists(f"{OUT}/exports/coco-panoptic/UNFINISHED")
    assert storage.exists(f"{OUT}/report/index.html")


def test_an_output_folder_that_is_held_is_refused(store, run):
    lock = OutputLock(OUT, "tonight", Pulse(seconds=0.05))
    lock.acquire()
    result = run(ROOT, OUT, code=4)
    lock.release()
    assert "run tonight (host" in result.output


def test_only_local_files_are_compacted(store, run, citymask):
    run(ROOT, OUT)
    result = citymask("compact", OUT)
    assert result.exit_code == 2
    assert "only the folders of a local file system" in result.output
