"""An output folder that is removed or replaced, as a whole or in part, while a run writes there."""

import random
import shutil
import sys
from pathlib import Path

import pytest

from tests.faults.comparing import differences, rows_of
from tests.faults.runs import MASKS, ROWS, City, finish, go_on, kill, stand_still_at
from transforms import storage
from transforms.output import columns, locking

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    return City.make(tmp_path_factory.mktemp("city"))


def remove(folder: Path) -> None:
    """Remove a folder, though workers may go on writing there."""
    while True:
        try:
            return shutil.rmtree(folder)
        except OSError:
            continue


def replace_by_copy(output: Path) -> None:
    shutil.copytree(output, output.with_name("copy"))
    shutil.rmtree(output)
    output.with_name("copy").rename(output)


def replace_by_nothing(output: Path) -> None:
    shutil.rmtree(output)
    output.mkdir()


def replace_masks(output: Path) -> None:
    remove(output / columns.MASKS)
    (output / columns.MASKS).mkdir()


DAMAGES = {
    "removed": (remove, locking.LOCK),
    "moved": (lambda output: output.rename(output.with_name("moved")), locking.LOCK),
    "replaced by an empty one": (replace_by_nothing, locking.LOCK),
    "replaced by a copy": (replace_by_copy, locking.LOCK),
    "without .citymask": (lambda o: remove(o / storage.WORK_FOLDER), locking.LOCK),
    "without masks": (lambda o: remove(o / columns.MASKS), columns.MASKS),
    "with other masks": (replace_masks, columns.MASKS),
    "without rows": (lambda o: remove(o / columns.STATISTICS), columns.STATISTICS),
}


@pytest.mark.parametrize(
    ("name", "moment", "workers"),
    [
        *((name, MASKS, 1) for name in DAMAGES),
        ("removed", ROWS, 1),
        ("without masks", ROWS, 1),
        ("removed", ROWS, 2),
        ("without masks", ROWS, 2),
    ],
)
def test_the_run_notices_and_ends_with_code_1(city, tmp_path, name, moment, workers):
    damage, named = DAMAGES[name]
    output = tmp_path / "out"
    process = city.start(output, "--workers", workers)
    try:
        assert stand_still_at(process, moment.watch(output, random.Random(0)))
        damage(output)
        go_on(process)
        code = finish(process)
    finally:
        kill(process)
    said = city.log(output).read_text()
    city.log(output).unlink()
    assert code == 1, said
    assert f"{output}: {named}" in said and "was removed or replaced during the run" in said
    assert workers > 1 or "Traceback" not in said  # Beam prints what a worker process raises.
    if name in ("removed", "moved"):
        assert not output.exists()


def test_the_next_run_does_again_what_is_missing(city, tmp_path):
    expected, output = tmp_path / "expected", tmp_path / "out"
    assert city.run(expected) == 0
    process = city.start(output)
    assert stand_still_at(process, ROWS.watch(output, random.Random(0)))
    shutil.rmtree(output / columns.STATISTICS)
    go_on(process)
    assert finish(process) == 1
    assert city.run(output) == 0
    assert len(rows_of(output)) == len(rows_of(expected))
    assert not differences(expected, output)
