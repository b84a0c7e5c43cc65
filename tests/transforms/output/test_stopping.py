"""A run is asked to stop by a file below its output folder."""

import pytest

from transforms.flow.records import ImageRef, PlannedImage, WorkUnit
from transforms.output import stopping
from transforms.output.locking import OutputLock
from transforms.segmenting.options import SegmentOptions
from transforms.segmenting.step import SegmentUnit


def test_a_request_holds_until_it_is_withdrawn(tmp_path):
    output = str(tmp_path)
    assert stopping.reason(output) is None
    stopping.request(output, "SIGTERM")
    assert stopping.reason(output) == "SIGTERM"
    for _ in range(2):
        stopping.withdraw(output)
        assert stopping.reason(output) is None


@pytest.fixture
def left(tmp_path):
    """A function that gives a unit of the run "mine" to a worker; the images that it left."""

    def left():
        ref = ImageRef("a.jpg", "/in/a.jpg", "/in/a.jpg", "1-1", ".")
        step = SegmentUnit(package=None, options=SegmentOptions(str(tmp_path), "mine"))
        (result,) = step.process(WorkUnit("unit", (PlannedImage(ref, "masks/a.jpg.png"),)))
        assert (result.segmented, result.failures) == ((), ())
        assert not (tmp_path / "masks").exists()
        return result.left

    return left


def test_a_unit_is_left_without_loading_a_model(tmp_path, left):
    stopping.request(str(tmp_path), "SIGINT")
    assert [planned.ref.image for planned in left()] == ["a.jpg"]


def test_a_worker_that_outlives_its_run_leaves_its_units_to_the_next(tmp_path, left):
    lock = OutputLock(str(tmp_path), "the next run")
    lock.acquire()
    assert [planned.ref.image for planned in left()] == ["a.jpg"]
    lock.release()
