"""After a power cut the next run ends as if nothing had happened, whatever the disk has kept.

Real commands are recorded, and their output folder is rebuilt as cuts at many moments may leave it.
"""

import gc
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.cli import COLLECT_AFTER
from tests.faults import comparing, replaying
from tests.faults.comparing import Differences
from tests.faults.forked import ForkedProcess
from tests.faults.power_cuts import Disk, Flush
from transforms.flow import alone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

CUTS = 12
"""Moments at which each command is cut; 72 in all."""

NOTHING = Differences()


@pytest.fixture(scope="module", autouse=True)
def garbage_is_collected_as_in_the_program():
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER)
    yield
    gc.set_threshold(*before)


@pytest.fixture(scope="module", autouse=True)
def processes_for_suspects_are_forks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alone.subprocess, "Popen", ForkedProcess)
        yield


@pytest.fixture(scope="module", params=replaying.COMMANDS)
def recorded(request, tmp_path_factory, tiny_model):
    """A command and what it asked of the disk."""
    work = tmp_path_factory.mktemp("story")
    story = replaying.Story.begin(request.param, work, tiny_model)
    return story, story.record(work / "recorded")


def test_the_next_run_ends_in_the_undisturbed_result(recorded):
    assert replaying.cut_and_repair(*recorded, CUTS, seed=0) == NOTHING


def test_what_is_recorded_is_all_that_happens(recorded):
    story, recording = recorded
    assert recording.look_around() == 0
    flushed = replace(recording, steps=[*recording.steps, Flush(None)])
    flushed.cut(len(flushed), random.Random()).write(story.work / "rebuilt")
    assert contents(story.work / "rebuilt") == contents(story.work / "recorded")


@pytest.mark.parametrize("recorded", ["a first run", "a run with --durable never"], indirect=True)
def test_what_a_run_that_has_ended_wrote_is_on_the_disk(recorded):
    _, recording = recorded
    ended, chance = len(recording), random.Random(0)
    flushed = replace(recording, steps=[*recording.steps, Flush(None)])
    on_disk = results(flushed.cut(len(flushed), chance))
    for _ in range(20):
        assert results(recording.cut(ended, chance)) == on_disk


def results(disk: Disk) -> dict[str, bytes]:
    """All files that are not hidden, with their data."""
    return {path: data for path, data in disk.contents() if not path.startswith(".")}


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("recorded", ["a first run"], indirect=True)
def test_no_row_stands_before_its_mask_unless_the_disk_lies(recorded):
    assert rows_without_mask(*recorded, honest=True) == 0
    assert rows_without_mask(*recorded, honest=False) > 20


def rows_without_mask(story, recording, honest: bool) -> int:
    """After how many cuts a row stands without a whole mask, or a file of rows is damaged."""
    chance, found = random.Random(0), 0
    for number in range(200):
        output = story.work / f"cut {number}"
        recording.cut(number % len(recording), chance, honest).write(output)
        try:
            found += bool(comparing.rows_without_mask(output))
        except pa.ArrowInvalid:
            found += 1
        shutil.rmtree(output)
    return found
