"""`citymask run` on photos in a store that Beam has a file system for."""

from pathlib import Path

import pytest

from tests.faults.archives import photo_bytes
from tests.made_models import make_model
from tests.same_results import assert_same_results
from tests.shard_files import write_tar
from tests.shelf import ShelfFileSystem


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return make_model(folder, architecture="unet", width=0.05).path


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """The local folder that `shelf://` is: photos in folders and a shard, and a manifest."""
    folder = tmp_path / "shelf"
    for seed, name in enumerate(["top.png", "lund/1.png", "lund/2.png", "listed/3.png"]):
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).write_bytes(photo_bytes(seed))
    write_tar(folder / "photos/a.tar", [("4.png", photo_bytes(4))])
    (folder / "list.csv").write_text("uri,heading\nphotos/listed/3.png,90\n")
    monkeypatch.setattr(ShelfFileSystem, "folder", str(folder))
    return folder


@pytest.fixture
def run(citymask, tmp_path, model, output_at):
    """A function that runs over all of it, below a root."""

    def run(root: str, name: str):
        inputs = [f"{root}/photos", f"{root}/list.csv", f"{root}/photos/*.png"]
        result = citymask("run", *inputs, "-o", tmp_path / name, "--model", model)
        assert result.exit_code == 0, result.output
        return output_at(tmp_path / name)

    return run


def test_a_run_gives_what_it_gives_on_local_files(shelf, run):
    found, expected = run("shelf:/", "of-shelf"), run(shelf, "of-disk")
    assert_same_results(found, expected)

    (shelf / "photos/lund/2.png").unlink()
    run("shelf:/", "of-shelf")
    images = found.runs[-1]["images"]
    assert {name: images[name] for name in ("done", "removed")} == {"done": 0, "removed": 1}


def test_results_are_not_written_there(shelf, citymask, model):
    result = citymask("run", shelf / "photos", "-o", "shelf://out", "--model", model)
    assert result.exit_code == 2
    assert result.output == "Error: shelf://out: OUT is a local folder or gs://BUCKET/NAME\n"
    assert not (shelf / "out").exists()


def test_a_store_that_beam_does_not_know_is_told_in_one_line(citymask, tmp_path, model):
    result = citymask("run", "nowhere://a", "-o", tmp_path / "out", "--model", model)
    assert result.exit_code == 2
    (error,) = result.output.splitlines()
    assert error.startswith("Error: nowhere://a/**: Unable to get filesystem from specified path")
