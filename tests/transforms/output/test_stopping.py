"""A run is asked to stop by a file below its output folder."""

from contextlib import contextmanager

import pytest

from pipeline.runs.request import locked
from transforms.flow.records import ImageRef, PlannedImage, WorkUnit
from transforms.output import stopping
from transforms.output.locking import LOCK, LockedError, LockLostError, OutputLock
from transforms.segmenting.options import SegmentOptions
from transforms.segmenting.step import SegmentUnit


@contextmanager
def held(output, run_id, writes=True):
    lock = OutputLock(str(output), run_id, writes=writes)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


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
        options = SegmentOptions(str(tmp_path), "mine", locked=True)
        step = SegmentUnit(package=None, options=options)
        (result,) = step.process(WorkUnit("unit", (PlannedImage(ref, "masks/a.jpg.png"),)))
        assert (result.segmented, result.failures) == ((), ())
        assert not (tmp_path / "masks").exists()
        return result.left

    return left


@pytest.fixture
def mine(tmp_path):
    """The lock of the run "mine"."""
    lock = OutputLock(str(tmp_path), "mine")
    lock.acquire()
    return lock


def test_a_unit_is_left_without_loading_a_model(tmp_path, mine, left):
    stopping.request(str(tmp_path), "SIGINT")
    assert [planned.ref.image for planned in left()] == ["a.jpg"]


def test_a_worker_that_outlives_its_run_does_no_unit_of_it(tmp_path, mine, left):
    mine.release()
    said = "run mine has lost the lock: run the next run"
    with held(tmp_path, "the next run"), pytest.raises(LockLostError, match=said):
        left()
    with pytest.raises(LockLostError, match="run the next run .*, ended"):
        left()


def test_a_job_that_nobody_waits_for_keeps_the_right_to_write(tmp_path, mine, left):
    mine.release()
    stopping.request(str(tmp_path), "max_images", "mine")
    for work in ("verify", "export"):
        with held(tmp_path, work, writes=False):
            assert left()
        assert left()
    with held(tmp_path, "the next run"), pytest.raises(LockLostError):
        left()


def test_a_refused_submission_gives_the_right_to_write_back(tmp_path, mine, left):
    mine.release()
    with pytest.raises(LockedError), locked(str(tmp_path), "the next run"):
        raise LockedError("a job is active")
    stopping.request(str(tmp_path), "max_images", "mine")
    assert left()


@pytest.mark.parametrize("content", [b"", b"{", None])
def test_a_lock_file_that_is_emptied_damaged_or_gone_is_a_lost_lock(tmp_path, mine, left, content):
    mine.release()
    file = tmp_path / LOCK
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(LockLostError, match="lock is gone"):
        left()


def test_a_run_that_lost_its_lock_asks_no_other_to_stop(tmp_path, mine, caplog):
    mine.release()
    with held(tmp_path, "the next run"):
        stopping.request_soon(str(tmp_path), "SIGTERM", "mine").join()
        assert stopping.reason(str(tmp_path)) is None
    assert "the run cannot be asked to stop" in caplog.text
