"""How many processes share the work of a run, where the user leaves it to the program."""

import os

import pytest

from models.engines import EngineName, devices
from pipeline.runs import sharing
from pipeline.runs.request import RunRequest
from pipeline.runs.sharing import CORES_OF_A_PROCESS, PHOTOS_OF_A_PROCESS, shared

MANY = 3 * PHOTOS_OF_A_PROCESS


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An archive for three processes, of files that are not read here."""
    folder = tmp_path_factory.mktemp("archive")
    for number in range(MANY):
        (folder / f"{number}.jpg").touch()
    return folder


@pytest.fixture
def machine(monkeypatch):
    """A function that makes this machine seem to have so many cores, gibibytes and GPUs."""

    def seem(cores: int, memory: int = 64, gpu: bool = False) -> None:
        monkeypatch.setattr(devices, "cores", lambda: cores)
        monkeypatch.setattr(devices, "memory", lambda: memory << 30)
        monkeypatch.setattr(devices, "cuda_has_devices", lambda: gpu)

    return seem


@pytest.fixture
def workers(archive, tmp_path):
    """A function that returns the number of workers of a run with these settings."""

    def count(beam=None, **settings) -> int:
        settings = {"inputs": (str(archive),), "output": str(tmp_path / "out"), **settings}
        return shared(RunRequest(**settings), beam or {}).workers

    return count


@pytest.mark.parametrize(
    ("cores", "expected"),
    [(1, 1), (2, 1), (CORES_OF_A_PROCESS, 1), (CORES_OF_A_PROCESS + 1, 2), (16, 2), (24, 3)],
)
def test_one_process_for_so_many_cores(machine, workers, cores, expected):
    machine(cores)
    assert workers() == expected


def test_no_more_processes_than_pay_for_the_photos(machine, workers, archive, tmp_path):
    machine(64)
    assert workers() == 3
    few = tmp_path / "few"
    few.mkdir()
    for file in sorted(archive.iterdir())[: PHOTOS_OF_A_PROCESS - 1]:
        os.link(file, few / file.name)
    assert workers(inputs=(str(few),)) == 1
    assert workers(inputs=(str(few), str(archive / "0.jpg"), f"{archive}/1*.jpg")) == 2


def test_photos_in_shards_count_by_their_bytes(machine, workers, tmp_path):
    machine(64)
    with open(tmp_path / "a.tar", "wb") as shard:
        shard.truncate((2 * PHOTOS_OF_A_PROCESS) << 20)  # It takes no room on the disk.
    assert workers(inputs=(str(tmp_path / "a.tar"),)) == 2


def test_no_more_processes_than_fit_into_memory(machine, workers):
    machine(64, memory=5)
    assert workers() == 2
    machine(64, memory=1)
    assert workers() == 1


def test_a_number_that_is_given_counts(machine, workers):
    machine(64)
    assert workers(workers=5) == 5
    machine(2)
    assert workers(workers=5) == 5


def test_one_process_feeds_a_gpu(machine, workers):
    machine(64, gpu=True)
    assert workers() == 1
    assert workers(engine=EngineName.OPENVINO) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"engine": EngineName.TENSORFLOW},
        {"engine": EngineName.JAX},
        {"windows": 0.5},
        {"gpu": "nvidia-l4"},
        {"require_gpu": True},
        {"inputs": ("no such folder",)},
        {"beam": {"runner": "DataflowRunner"}},
        {"beam": {"direct_num_workers": 2}},
    ],
    ids=str,
)
def test_one_process_where_more_would_not_help_or_are_not_ours_to_start(machine, workers, settings):
    machine(64)
    assert workers(**settings) == 1


def test_a_run_on_many_cores_has_several_processes_and_says_so(
    machine, monkeypatch, citymask, make_photo, tiny_model, output, tmp_path
):
    machine(2 * CORES_OF_A_PROCESS)
    monkeypatch.setattr(sharing, "PHOTOS_OF_A_PROCESS", 2)
    for number in range(4):
        make_photo(tmp_path / "photos" / f"{number}.jpg", seed=number)
    done = citymask(
        "run", tmp_path / "photos", "-o", output.path, "--model", tiny_model, "--unit-size", 2
    )
    assert done.exit_code == 0, done.output
    assert len(output.rows) == 4
    options = output.runs[0]["options"]
    assert (options["workers"], options["beam"]["direct_num_workers"]) == (2, 2)


def test_memory_is_that_of_the_container(tmp_path, monkeypatch):
    whole = devices.memory()
    assert whole > 1 << 28
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(devices, "MEMORY_LIMIT", limit)
    for text, expected in (("268435456\n", 1 << 28), ("max\n", whole)):
        limit.write_text(text)
        assert devices.memory() == expected
