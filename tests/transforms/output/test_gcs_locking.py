"""The lock of an output folder in Cloud Storage: an object that its owner keeps writing anew."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

from pipeline import console
from tests.command_line import logging_kept
from tests.faulty_proxy import BUSY, DROP_ANSWER, PASS, FaultyProxy, always, once
from tests.gcs_server import GcsServer
from tests.waiting import until
from transforms.output.locking import LOCK, LockedError, OutputLock, Owner, Pulse, holder
from transforms.storage.gcs_client import Patience

IMPATIENT = Patience(retry_seconds=0.1)
BUCKET = "town"
OUTPUT = f"gs://{BUCKET}/out"
PATIENCE = 60.0
"""Seconds after which what does not come will not come."""

FAST = Pulse(seconds=0.05)
WATCHED_LONG = replace(FAST, missing=PATIENCE / FAST.seconds)
"""Nobody takes an owner with this pulse for dead."""


@pytest.fixture
def server(cloud_storage_at):
    with GcsServer() as server, cloud_storage_at(server.url):
        server.buckets[BUCKET] = {}
        yield server


@contextmanager
def held(run_id: str, pulse: Pulse = FAST):
    lock = OutputLock(OUTPUT, run_id, pulse)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_lock(server: GcsServer, run_id: str) -> None:
    """The lock as another machine has written it."""
    owner = Owner(run_id, "elsewhere", 7, "2026-11-22T21:30:00+00:00", "2026-11-22T21:30:10+00:00")
    server.put(BUCKET, f"out/{LOCK}", owner.to_json())


def owner_in(server: GcsServer) -> Owner | None:
    return Owner.parse(server.files(BUCKET)[f"out/{LOCK}"])


def warnings(caplog) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_it_names_its_owner_and_after_it_was_given_back_it_is_free(server, caplog):
    for run in ("one", "two"):
        with held(run):
            assert owner_in(server).run_id == run
            assert holder(OUTPUT).run_id == run
        assert holder(OUTPUT) is None
    assert not warnings(caplog)


def test_a_second_run_is_refused_as_soon_as_the_first_gives_a_sign_of_life(server, caplog):
    with held("one"):
        with pytest.raises(LockedError, match="gs://town/out: run one .* holds this folder; wait"):
            OutputLock(OUTPUT, "two", WATCHED_LONG).acquire()
        assert owner_in(server).run_id == "one"
    assert not warnings(caplog)


def test_the_lock_of_a_silent_owner_is_taken_over_after_a_while_and_that_is_logged(server, caplog):
    write_lock(server, "dead")
    start = time.monotonic()
    with held("mine"):
        assert time.monotonic() - start >= FAST.missing * FAST.seconds
        assert owner_in(server).run_id == "mine"
    (record,) = warnings(caplog)
    assert "took the lock over from run dead (host elsewhere, process 7" in record.getMessage()


def test_a_run_that_waits_for_the_lock_says_so_at_the_usual_level(server, capsys):
    write_lock(server, "dead")
    with logging_kept():
        console.set_up_logging(console.NORMAL)
        with held("mine"):
            pass
    assert "run dead (host elsewhere, process 7" in (said := capsys.readouterr().err)
    assert "holds the lock; waiting for a sign of life" in said


def test_of_two_that_wait_for_a_dead_owner_one_gets_the_lock(server):
    write_lock(server, "dead")
    locks = [OutputLock(OUTPUT, f"run-{number}", FAST) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        errors = [future.exception() for future in [pool.submit(lock.acquire) for lock in locks]]
    assert sorted(type(error) for error in errors if error) == [LockedError]
    winner = locks[errors.index(None)]
    assert owner_in(server).run_id in str(next(filter(None, errors)))
    winner.release()
    assert holder(OUTPUT) is None


def test_a_lock_that_is_given_back_while_one_waits_is_free(server, caplog):
    write_lock(server, "ending")
    looks = server.asked["look", f"out/{LOCK}"]
    lock = OutputLock(OUTPUT, "mine", WATCHED_LONG)
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(lock.acquire)
        until(lambda: server.asked["look", f"out/{LOCK}"] > looks + 2)
        server.put(BUCKET, f"out/{LOCK}", b"")
        taken.result(PATIENCE)
    assert owner_in(server).run_id == "mine"
    lock.release()
    assert not warnings(caplog)


def test_whoever_is_first_has_a_new_lock(server):
    def meanwhile(method: str, name: str) -> None:
        if method == "UPLOAD" and name not in server.files(BUCKET):
            write_lock(server, "first")

    server.before = meanwhile
    with pytest.raises(LockedError, match="run first"):
        OutputLock(OUTPUT, "second", FAST).acquire()
    assert owner_in(server).run_id == "first"


def test_an_owner_whose_lock_was_taken_over_says_so_and_leaves_it_to_the_other(server, caplog):
    with held("mine"):
        write_lock(server, "other")
        until(lambda: caplog.records)
    lost, kept = (record.getMessage() for record in caplog.records)
    assert lost.startswith("lost the lock: gs://town/out: run other (host elsewhere")
    assert kept.startswith("the lock was not given back: gs://town/out/")
    assert owner_in(server).run_id == "other"


def test_an_answer_that_is_lost_loses_no_lock(server, cloud_storage_at, caplog):
    for after in range(3):  # To the first write of all, to that of a heartbeat.
        choose = once(DROP_ANSWER, "POST", after=after)
        with FaultyProxy(server.url, choose) as proxy, cloud_storage_at(proxy.url), held("mine"):
            until(lambda proxy=proxy: proxy.done[DROP_ANSWER])
            before = server.generation(BUCKET, f"out/{LOCK}")
            until(lambda before=before: server.generation(BUCKET, f"out/{LOCK}") > before)
            assert owner_in(server).run_id == "mine"
        assert holder(OUTPUT) is None
    assert not warnings(caplog)


def test_an_outage_is_told_and_survived(server, cloud_storage_at, caplog):
    with FaultyProxy(server.url) as proxy, cloud_storage_at(proxy.url, IMPATIENT), held("mine"):
        proxy.choose = always(BUSY)
        until(lambda: caplog.records)
        proxy.choose = always(PASS)
        before = server.generation(BUCKET, f"out/{LOCK}")
        until(lambda: server.generation(BUCKET, f"out/{LOCK}") > before)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert caplog.records[0].getMessage().startswith("no heartbeat: gs://town/out/")
    assert holder(OUTPUT) is None


def test_a_lock_that_cannot_be_given_back_is_told_and_no_error(server, cloud_storage_at, caplog):
    with (
        FaultyProxy(server.url) as proxy,
        cloud_storage_at(proxy.url, IMPATIENT),
        held("mine", Pulse(seconds=PATIENCE)),
    ):
        proxy.choose = always(BUSY)
    (record,) = warnings(caplog)
    assert record.getMessage().startswith("the lock was not given back: gs://town/out/")
    assert "no success in 0.1 s of tries" in record.getMessage()
