"""A photo that kills the process that decodes it costs the other photos nothing.

The first run is killed. The next one does what the killed one was at photo by photo, each in a
process that may die; and so the killer gets a failure and the others their masks.
"""

import os
import signal
import sys
from dataclasses import replace

import pytest

from tests.faults.archives import photo_bytes, put
from tests.faults.comparing import failures_of, rows_of
from tests.faults.runs import ALONE, WITH_ALL, City, finish, killer, verify
from transforms.output import begun, columns

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

PHOTOS = 12
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    """A model, and an archive that is made anew for each test."""
    return City.make(tmp_path_factory.mktemp("killers"))


@pytest.fixture
def story(city, tmp_path):
    """A function that makes an archive with so many killers; the city, and their names."""

    def make(killers: int):
        archive = tmp_path / "archive"
        names = {f"{number:02}.bmp" for number in range(1, 3 * killers, 3)}
        for number in range(PHOTOS):
            if f"{number:02}.bmp" in names:
                put(archive / f"{number:02}.bmp", killer(photo_bytes(number)))
            else:
                put(archive / f"{number:02}.png", photo_bytes(number))
        return replace(city, archive=archive, work=tmp_path), names

    return make


def run(city, output, *options, **how):
    """Run once; the exit code, and what was printed."""
    log = city.log(output)
    log.unlink(missing_ok=True)
    code = finish(city.start(output, *options, **how))
    return code, log.read_text()


def check(city, output, killers, stages=(columns.ALONE,)):
    """The killers have a failure each, the others what an undisturbed run gives them."""
    expected = city.work / "expected"
    assert city.run(expected) == 0
    wanted = [row for row in rows_of(expected) if row[columns.IMAGE] not in killers]
    assert len(wanted) == PHOTOS - len(killers)
    assert rows_of(output) == wanted
    for row in wanted:
        mask = row[columns.MASK]
        assert (output / mask).read_bytes() == (expected / mask).read_bytes()
    failures = failures_of(output)
    assert {image: row[columns.ERROR] for image, row in failures.items()} == dict.fromkeys(
        killers, "ProcessKilled"
    )
    for row in failures.values():
        assert row[columns.STAGE] in stages
        assert "killed the process before" in row[columns.MESSAGE]
        assert "--retry-failed" in row[columns.MESSAGE]
    assert verify(output, city.log(output)) == 0


def nothing_is_begun(output) -> bool:
    return os.listdir(output / begun.BEGUN) == []


def test_the_next_run_gives_killers_a_failure_and_the_others_their_masks(story, tmp_path):
    city, killers = story(4)
    output = tmp_path / "output"
    unit = "--unit-size", PHOTOS
    assert run(city, output, *unit, killers=ALONE)[0] == KILLED
    assert run(city, output, *unit, killers=ALONE)[0] == 0
    check(city, output, killers)
    code, printed = run(city, output, killers=ALONE)
    assert (code, "nothing new" in printed) == (0, True), printed
    assert nothing_is_begun(output)


def test_killers_stay_in_processes_of_their_own_when_they_are_retried(story, tmp_path):
    city, killers = story(1)
    output = tmp_path / "output"
    assert run(city, output, killers=ALONE)[0] == KILLED
    for options in ((), ("--retry-failed",)):
        assert run(city, output, *options, killers=ALONE)[0] == 0
        check(city, output, killers)
    assert run(city, output, "--retry-failed")[0] == 0
    assert rows_of(output) == rows_of(tmp_path / "expected")


def test_killers_in_several_units_are_found_by_as_many_runs(story, tmp_path):
    city, killers = story(4)
    output = tmp_path / "output"
    codes = []
    while not codes or codes[-1]:
        codes.append(run(city, output, "--unit-size", 3, killers=ALONE)[0])
        assert len(codes) <= 4 + 1
    assert set(codes[:-1]) == {KILLED}
    check(city, output, killers)


def test_killers_that_take_the_whole_run_with_them_are_found_after_three_runs(story, tmp_path):
    city, killers = story(1)
    output = tmp_path / "output"
    codes = [run(city, output, killers=WITH_ALL)[0] for _ in range(4)]
    assert codes == [KILLED, KILLED, KILLED, 0]
    check(city, output, killers)


def test_killers_that_the_gate_looks_at_are_found(story, tmp_path):
    city, killers = story(1)
    output = tmp_path / "output"
    gate = "--skip-duplicates"
    assert run(city, output, gate, killers=ALONE)[0] == KILLED
    assert run(city, output, gate, killers=ALONE)[0] == 0
    assert failures_of(output).keys() == killers
    expected = tmp_path / "gated"
    assert run(city, expected, gate)[0] == 0
    wanted = [row for row in rows_of(expected) if row[columns.IMAGE] not in killers]
    assert rows_of(output) == wanted


def test_killers_whose_day_of_capture_is_read_are_found(story, tmp_path):
    city, killers = story(1)
    output = tmp_path / "output"
    days = "--by", "capture", "--from", "2000-01-01"
    assert run(city, output, *days, killers=ALONE)[0] == KILLED
    code, printed = run(city, output, *days, "--max-failures", 1, killers=ALONE)
    assert code == 0, printed
    assert failures_of(output).keys() == killers
    assert rows_of(output) == []


def test_killers_are_found_by_several_worker_processes(story, tmp_path):
    city, killers = story(1)
    output = tmp_path / "output"
    workers = "--workers", 2
    assert run(city, output, *workers, killers=ALONE)[0] != 0
    assert run(city, output, *workers, killers=ALONE)[0] == 0
    check(city, output, killers)
