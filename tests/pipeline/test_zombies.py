"""A run that is stalled while another takes its folder over, and then goes on: a zombie.

The zombie is a process that is stopped (SIGSTOP) while it waits for the answer to a request, or
after a file has appeared. Meanwhile photos change, and another run takes the folder over and
finishes.
"""

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event

import pytest

from tests.faults.archives import photo_bytes
from tests.faults.runs import (
    MASKS,
    PROCESSES,
    SUMMARY,
    Moment,
    finish,
    go_on,
    kill,
    stand_still_at,
    start,
)
from tests.gcs_server import GcsServer
from tests.waiting import until
from transforms.output import locking
from transforms.output.locking import LOCK, Pulse
from transforms.storage import gcs_client

BUCKET = "town"
OUT = f"gs://{BUCKET}/out"
FAST = Pulse(0.1)
PHOTOS = 4


def live(url: str, words: list[str], log: str) -> None:
    """Run a command line in this process, over the server at a URL."""
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    os.environ[gcs_client.EMULATOR] = url
    locking.PULSE = FAST
    sys.argv = ["citymask", *words]
    from pipeline.cli import main

    main()


@contextmanager
def ended(process: BaseProcess) -> Iterator[BaseProcess]:
    try:
        yield process
    finally:
        if process.exitcode is None:
            process.kill()
            process.join()


class TestCloudStorage:
    @pytest.fixture
    def server(self, cloud_storage_at, monkeypatch):
        monkeypatch.setattr(locking, "PULSE", FAST)
        with GcsServer() as server, cloud_storage_at(server.url):
            for number in range(PHOTOS):
                server.put(BUCKET, f"photos/{number}.png", photo_bytes(number))
            yield server

    @pytest.fixture
    def line(self, tiny_model) -> list[str]:
        return ["run", f"gs://{BUCKET}/photos", "-o", OUT, "--model", str(tiny_model)]

    @pytest.fixture
    def another(self, server, citymask, line):
        """A function that changes photos, and lets another run do all of them."""

        def another() -> None:
            for number in range(PHOTOS - 1):
                server.put(BUCKET, f"photos/{number}.png", photo_bytes(100 + number, 2))
            result = citymask(*line)
            assert result.exit_code == 0, result.output
            assert "took the lock over from run" in result.output

        return another

    @pytest.fixture
    def stalled(self, server, line, tmp_path, another):
        """A function that stalls a run at a request until another has taken its folder over.

        It gives the exit code of the stalled run, and what the other has left.
        """

        def stalled(is_moment: Callable[[str, str], bool]) -> tuple[int, dict[str, bytes]]:
            waits, goes_on = Event(), Event()

            def before(method: str, name: str) -> None:
                if not waits.is_set() and is_moment(method, name):
                    waits.set()
                    goes_on.wait()

            server.before = before
            log = str(tmp_path / "log")
            process = PROCESSES.Process(target=live, args=(server.url, line, log))
            process.start()
            with ended(process):
                until(waits.is_set)
                os.kill(process.pid, signal.SIGSTOP)
                another()
                left = server.files(BUCKET, "out/")
                goes_on.set()
                os.kill(process.pid, signal.SIGCONT)
                code = finish(process)
            said = Path(log).read_text()
            assert "Error: gs://town/out: run " in said and "has lost the lock: run" in said
            return code, left

        return stalled

    @pytest.mark.parametrize("name", ["masks/0.png.png", "summary.json", "removed.csv"])
    def test_what_it_was_about_to_replace_stays(self, server, stalled, name):
        def is_moment(method: str, asked: str) -> bool:
            return method == "UPLOAD" and asked == f"out/{name}"

        code, left = stalled(is_moment)
        assert code == 5
        assert server.files(BUCKET, "out/") == left

    def test_a_mask_is_replaced_only_in_the_generation_that_was_found(
        self, server, stalled, citymask, line
    ):
        """The request to replace it was under way when another run replaced it."""
        assert citymask(*line).exit_code == 0
        server.put(BUCKET, "photos/0.png", photo_bytes(50))
        uploads = []

        def is_moment(method: str, asked: str) -> bool:
            if (method, asked) == ("UPLOAD", "out/masks/0.png.png"):
                uploads.append(asked)
            return len(uploads) == 2

        code, left = stalled(is_moment)
        assert code == 5
        assert server.files(BUCKET, "out/") == left

    @pytest.mark.parametrize(("written", "times"), [("masks/", PHOTOS), ("summary.csv", 1)])
    def test_what_comes_next_is_not_written(self, server, stalled, written, times):
        """Rows come after masks, the record after the summary."""
        seen = []

        def is_moment(method: str, asked: str) -> bool:
            if method == "UPLOAD" and asked.startswith(f"out/{written}"):
                seen.append(asked)
            return len(seen) == times and (method, asked) == ("GET", f"out/{LOCK}")

        code, left = stalled(is_moment)
        assert code == 5
        assert server.files(BUCKET, "out/") == left

    def test_rows_that_were_under_way_are_dropped_by_the_next_run(
        self, server, stalled, citymask, line
    ):
        """No store can refuse a new file; the rows are of a run before the one that stands."""
        code, left = stalled(lambda method, name: name.startswith("out/statistics/"))
        assert code == 5
        extra = server.files(BUCKET, "out/").keys() - left.keys()
        assert {name.split("/")[1] for name in extra} == {"statistics"}
        result = citymask(*line)
        assert result.exit_code == 0, result.output
        assert server.files(BUCKET, "out/statistics/").items() <= left.items()
        assert server.files(BUCKET, "out/masks/").items() <= left.items()


class TestFolderOfSeveralHosts:
    """A local folder whose kernel lock was lost, as NFS may lose it: another holds the file now."""

    @pytest.fixture
    def photo(self, tmp_path) -> Path:
        path = tmp_path / "photos" / "0.png"
        path.parent.mkdir()
        path.write_bytes(photo_bytes(0))
        return path

    @pytest.mark.parametrize("moment", [MASKS, SUMMARY], ids=lambda moment: moment.path)
    def test_a_zombie_changes_nothing(self, photo, output, citymask, tiny_model, moment: Moment):
        line = ["run", photo.parent, "-o", output.path, "--model", tiny_model]
        log = output.path.parent / "log"
        process = start(line, log)
        try:
            has_come = replace(moment, most=1).watch(output.path, random.Random(0))
            assert stand_still_at(process, has_come)
            (output.path / LOCK).unlink()
            photo.write_bytes(photo_bytes(100, 2))
            result = citymask(*line)
            assert result.exit_code == 0, result.output
            left = files_of(output.path)
            go_on(process)
            code = finish(process)
        finally:
            if process.exitcode is None:
                kill(process)
        assert code == 5, log.read_text()
        assert "has lost the lock: run" in log.read_text()
        assert files_of(output.path) == left


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
