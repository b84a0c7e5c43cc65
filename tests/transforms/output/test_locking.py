"""The lock of an output folder: one owner at a time, and none that is dead."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from pipeline.runs.request import locked
from tests.waiting import until
from transforms.output import locking
from transforms.output.locking import LockedError, LockLostError, OutputLock, Pulse

HOLD = """
import sys, time
from transforms.output.locking import OutputLock
OutputLock(sys.argv[1], "other-run").acquire()
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def held(output, run_id, pulse=None, writes=True):
    lock = OutputLock(str(output), run_id, pulse, writes)
    lock.acquire()
    yield lock
    lock.release()


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_owner_is_refused_and_told_who_the_first_is(other, tmp_path):
    with pytest.raises(LockedError) as caught:
        OutputLock(str(tmp_path), "mine").acquire()
    message = str(caught.value)
    assert "\n" not in message and str(tmp_path) in message
    who = ("run other-run", f"process {other.pid}", "host ", "since 20", "heartbeat 20")
    for part in (*who, "wait until it ends"):
        assert part in message


def test_after_the_owner_gave_it_back_it_is_free_and_nothing_is_said(tmp_path, caplog):
    for run in ("one", "two"):
        with held(tmp_path, run):
            pass
    assert not caplog.records


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_owners_lock_is_taken_over_and_that_is_logged(other, tmp_path, caplog, ending):
    other.send_signal(ending)
    other.wait()
    with caplog.at_level(logging.WARNING), held(tmp_path, "mine"):
        pass
    (record,) = caplog.records
    assert "took the lock over from run other-run" in record.getMessage()


def test_the_owner_says_that_it_lives(tmp_path, monkeypatch):
    now = iter(f"beat {number}" for number in range(100_000))
    monkeypatch.setattr(locking, "_now", lambda: next(now))
    with held(tmp_path, "mine", Pulse(seconds=0.01)):
        (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
        seen = set()
        deadline = time.monotonic() + 30
        while len(seen) < 3 and time.monotonic() < deadline:
            owner = json.loads(file.read_text())
            seen.add(owner["heartbeat"])
        assert len(seen) >= 3
        assert owner["run_id"] == "mine" and owner["pid"] == os.getpid()
        assert owner["started"] == "beat 0"


@pytest.mark.parametrize(
    ("folder", "lock"), [(0o755, 0o600), (0o2775, 0o660), (0o777, 0o666), (0o700, 0o600)]
)
def test_only_who_may_write_to_the_folder_may_open_the_lock(tmp_path, folder, lock):
    file = tmp_path / locking.LOCK
    file.parent.mkdir()
    file.touch(0o644)  # As older versions left it.
    file.parent.chmod(folder)
    with held(tmp_path, "mine"):
        assert file.stat().st_mode & 0o777 == lock
        assert file.stat().st_gid == file.parent.stat().st_gid


@pytest.mark.skipif(os.geteuid() != 0, reason="acts as two other users")
@pytest.mark.parametrize(("mode", "may_hold"), [(0o2775, True), (0o755, False)])
def test_a_member_of_the_group_can_take_the_lock_where_it_may_write(tmp_path, mode, may_hold):
    folder = tmp_path / os.path.dirname(locking.LOCK)
    folder.mkdir()
    os.chown(folder, 4001, 4000)
    folder.chmod(mode)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.name.startswith(("test_", "popen-", "pytest-")):
            parent.chmod(0o755)
    assert _can_take_it(tmp_path, user=4001)
    assert _can_take_it(tmp_path, user=4002) == may_hold


def _can_take_it(output, user):
    """Whether another user, of a group of its own and of group 4000, can take the lock."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    try:
        os.umask(0o002)
        os.setgroups([4000])
        os.setgid(user)
        os.setuid(user)
        with held(output, "other"):
            os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.parametrize("content", [b"{", bytes(512)])
def test_a_damaged_lock_file_is_of_an_owner_that_died_nobody_knows_when(tmp_path, content):
    file = tmp_path / locking.LOCK
    file.parent.mkdir()
    file.write_bytes(content)
    with held(tmp_path, "mine") as lock:
        assert lock.unchecked == "1970-01-01T00:00:00+00:00"


def test_what_a_dead_owner_has_left_is_unchecked_until_somebody_says_so(other, tmp_path):
    began = locking.holder(str(tmp_path)).started
    other.kill()
    other.wait()
    for _ in range(2):  # Whoever takes the lock and does not look leaves it to the next.
        with held(tmp_path, "mine") as lock:
            assert lock.unchecked == began
    with held(tmp_path, "mine") as lock:
        lock.note_check()
    with held(tmp_path, "mine") as lock:
        assert lock.unchecked == ""


@pytest.mark.parametrize("anew", [False, True], ids=["written over", "another file"])
def test_an_owner_that_lost_its_lock_leaves_the_file_of_the_other_alone(tmp_path, caplog, anew):
    """The kernel's lock may be lost on a network file system."""
    file = tmp_path / locking.LOCK
    with held(tmp_path, "mine", Pulse(seconds=0.01)):
        other = replace(locking.last_owner(str(tmp_path)), run_id="other").to_json()
        if anew:
            file.unlink()
        file.write_bytes(other)
        until(lambda: caplog.records)
    assert file.read_bytes() == other
    lost, kept = (record.getMessage() for record in caplog.records)
    assert lost.startswith(f"lost the lock: {tmp_path}: run other ")
    assert kept.startswith(f"the lock was not given back: {tmp_path}: run other ")


def test_after_it_was_given_back_the_file_names_the_last_owner_and_the_last_writer(tmp_path):
    with held(tmp_path, "a run"):
        pass
    with held(tmp_path, "a look", writes=False):
        found = locking.last_owner(str(tmp_path))
        assert (found.run_id, found.writer, found.released) == ("a look", "a run", False)
    found = locking.last_owner(str(tmp_path))
    assert (found.run_id, found.writer, found.released) == ("a look", "a run", True)
    assert locking.holder(str(tmp_path)) is None


def test_what_fails_because_the_lock_was_lost_is_told_as_that(tmp_path):
    output = str(tmp_path)
    with (
        pytest.raises(LockLostError, match="run mine has lost the lock: run other "),
        locked(output, "mine"),
    ):
        owner = replace(locking.last_owner(output), run_id="other", writer="other")
        (tmp_path / locking.LOCK).write_bytes(owner.to_json())
        raise RuntimeError("the job failed")
