"""Nothing is lost and nothing is there twice, whatever happens to a run.

A quick selection; `benchmarks/faults.py` does the same more often and at random moments.
"""

import random
import shutil
import sys

import pyarrow.parquet as pq
import pytest

from tests.faults import scenarios
from tests.faults.archives import BROKEN
from tests.faults.comparing import Differences, differences
from tests.faults.injecting import SmallDisk
from tests.faults.runs import MASKS, ROWS, SUMMARY, WRITING
from transforms.output import columns

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

NOTHING = Differences()


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """An archive that is done for the first time."""
    return scenarios.first_run(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """An archive that has changed since its first run; the same with that run in the far future."""
    return scenarios.changed_archive(tmp_path_factory.mktemp("changed"))


@pytest.fixture
def chance():
    return random.Random(0)


@pytest.fixture
def small_disk(tmp_path):
    try:
        with SmallDisk(tmp_path / "disk") as disk:
            yield disk
    except OSError as error:
        pytest.skip(f"a full disk cannot be had here: {error}")


def test_a_first_run_that_is_killed_again_and_again(first, chance):
    # What is there only for an instant (WRITING) may be missed, so it is not counted.
    moments = (MASKS, ROWS, WRITING, SUMMARY)
    found, kills = scenarios.killed(first, "killed", moments, chance)
    assert [kills[moment.name] for moment in (MASKS, ROWS, SUMMARY)] == [1, 1, 1]
    assert found == NOTHING


def test_a_run_over_a_changed_archive_that_is_killed_while_rows_are_replaced(changed, chance):
    found, kills = scenarios.killed(changed[0], "killed", (ROWS, ROWS), chance)
    assert kills[ROWS.name] == 2
    assert found == NOTHING


def test_runs_whose_clock_has_jumped_back_by_twenty_years(changed, chance):
    found, kills = scenarios.killed(
        changed[1], "clock", (ROWS,), chance, clock=-scenarios.TEN_YEARS
    )
    assert kills[ROWS.name] == 1
    assert found == NOTHING


@pytest.mark.parametrize(("pages", "missing"), [(5, columns.FAILURES), (8, columns.STATISTICS)])
def test_a_full_disk(first, small_disk, pages, missing):
    # The lock takes a page, and so do the model card, the record of what is begun and the four
    # masks of the unit.
    story = scenarios.first_unit_of_shard(first)
    assert scenarios.disk_full(story, small_disk, pages) == (NOTHING, missing)


def test_nights_with_a_full_disk_bring_no_photo_into_quarantine(first, small_disk):
    assert scenarios.disk_full_for_nights(first, small_disk) == NOTHING


def test_two_runs_that_start_together(first):
    assert scenarios.run_together(first, "together") == NOTHING


def test_work_units_that_are_done_twice_and_at_the_same_time(first):
    assert scenarios.executed_again(first, "again", in_processes=False) == NOTHING


def test_inputs_that_change_while_they_are_read(tmp_path, chance):
    assert scenarios.inputs_changed(tmp_path, chance) == NOTHING


class TestTheComparison:
    """It finds what it is there to find."""

    @pytest.fixture
    def output(self, first, tmp_path):
        return shutil.copytree(first.expected, tmp_path / "output")

    def test_of_an_output_with_itself_finds_nothing(self, first, output):
        assert differences(first.expected, output) == NOTHING

    def test_finds_lost_and_doubled_rows(self, first, output):
        one, other, *_ = sorted((output / columns.STATISTICS).iterdir())
        numbers = tuple(pq.read_metadata(file).num_rows for file in (other, one))
        shutil.copy(one, one.with_name("again.parquet"))
        other.unlink()
        found = differences(first.expected, output)
        assert (found.lost, found.doubled) == numbers

    def test_finds_what_else_differs(self, first, output):
        (output / columns.MASKS / "north" / "00.png.png").write_bytes(b"")
        (output / columns.MASKS / "of no row.png").write_bytes(b"")
        (output / columns.SUMMARY_JSON).write_text('{"images": {"skipped": 0}, "groups": {}}')
        (output / ".citymask" / "unfinished" / "a").touch()
        shutil.rmtree(output / columns.FAILURES)
        assert differences(first.expected, output).others == (
            "the mask north/00.png.png differs",
            "the mask of no row.png differs",
            f"the failure {BROKEN} differs",
            "summary differs",
            "a is unfinished",
        )
