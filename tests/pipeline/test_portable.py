"""Runs on a portable runner: job service and workers are other processes, and share files only.

How the services are started by hand is in docs/portable.md.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.portable_jobs import last_error
from tests.faults.archives import make_archive
from tests.faults.comparing import Differences, differences
from tests.portable_services import (
    PATIENCE,
    environment,
    free_ports,
    started,
    wait_for,
    workers_of,
)

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "portable.md"
UNITS = ("--unit-size", "2")
COUNTED = ("images", "pixels", "passed_over", "bytes_in", "bytes_out", "batches")


@dataclass(frozen=True)
class Services:
    """A job service, and a pool of workers in a folder of their own.

    Attributes:
        endpoint: of the job service.
        pool: process id of the pool.
        pool_endpoint: where the pool listens.
        log: what the workers print.
    """

    endpoint: str
    pool: int
    pool_endpoint: str
    log: Path

    @property
    def options(self) -> list[str]:
        """The command line's options for a run on them."""
        return [
            "--runner=PortableRunner", f"--job_endpoint={self.endpoint}",
            "--environment_type=EXTERNAL", f"--environment_config={self.pool_endpoint}",
        ]  # fmt: skip

    def engines(self) -> int:
        """How many processes have loaded an engine, which they do with their first unit."""
        return len(re.findall(r"\| +models\.engines$", self.log.read_text(), re.MULTILINE))


@contextmanager
def services(folder: Path, *options: str) -> Iterator[Services]:
    """As a context, services; the options are those of the job service."""
    folder.mkdir()
    (port,) = free_ports(1)
    settings = {"env": {**environment(folder), "PYTHONPROFILEIMPORTTIME": "1"}, "cwd": folder}
    with ExitStack() as stack:
        pool = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main"]
        log = folder / "workers.log"
        pool_process = stack.enter_context(
            started([*pool, f"--service_port={port}"], log, **settings)
        )
        service = [sys.executable, ROOT / "tests" / "portable_services.py", *options]
        process = stack.enter_context(
            started(service, folder / "service.log", stdout=subprocess.PIPE, **settings)
        )
        endpoint = f"localhost:{int(process.stdout.readline())}"
        wait_for(port)
        yield Services(endpoint, pool_process.pid, f"localhost:{port}", log)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory) -> Iterator[Services]:
    with services(tmp_path_factory.mktemp("services") / "two", "--workers=2") as found:
        yield found


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Photos in folders, one of them broken, and a tar shard."""
    return make_archive(tmp_path_factory.mktemp("archive") / "photos")


@pytest.fixture(scope="module")
def expected(archive, tiny_model, citymask, output_at, tmp_path_factory):
    """The output of a run inside this process."""
    path = tmp_path_factory.mktemp("expected") / "out"
    result = citymask("run", archive, "-o", path, "--model", tiny_model, *UNITS)
    assert result.exit_code == 0, result.output
    return output_at(path)


@pytest.fixture(scope="module")
def spread(archive, tiny_model, two_workers, citymask, output_at, tmp_path_factory):
    """The output of a run of two workers, and how many of them have segmented.

    Paths on the command line are relative, and the workers are in another folder.
    """
    folder = tmp_path_factory.mktemp("spread")
    before = two_workers.engines()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = citymask(
            "run", os.path.relpath(archive), "-o", "out", "--model", os.path.relpath(tiny_model),
            *UNITS, *two_workers.options,
        )  # fmt: skip
    assert result.exit_code == 0, result.output
    return output_at(folder / "out"), two_workers.engines() - before


class TestTwoWorkers:
    def test_give_what_one_process_gives(self, spread, expected):
        output, _ = spread
        assert differences(expected.path, output.path) == Differences()
        assert output.summary == expected.summary
        assert list(output.failures["image"]) == ["south/broken.jpg"]

    def test_both_segment(self, spread):
        assert spread[1] == 2

    def test_are_counted_together_in_the_run_record(self, spread, expected):
        (record,), (of_one_process,) = spread[0].runs, expected.runs
        assert {name: record[name] for name in COUNTED} == {
            name: of_one_process[name] for name in COUNTED
        }
        for name, stage in of_one_process["stages"].items():
            assert record["stages"][name]["count"] == stage["count"]


def test_a_killed_worker_loses_and_doubles_nothing(
    archive, tiny_model, two_workers, expected, citymask, output, tmp_path
):
    line = ["run", archive, "-o", output.path, "--model", tiny_model, "--unit-size", "1"]
    others = set(workers_of(two_workers.pool))
    with ThreadPoolExecutor() as threads:
        killed = threads.submit(kill_a_worker, two_workers.pool, others, output.path / "masks")
        result = citymask(*line, *two_workers.options)
        killed.result()
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: PortableRunner: .*\n", result.output)
    wait_until(lambda: not set(workers_of(two_workers.pool)) - others)
    done = len(output.rows)
    assert done < len(expected.rows)

    with services(tmp_path / "services", "--no-metrics") as found:
        result = citymask(*line, *found.options)
    assert result.exit_code == 0, result.output
    assert differences(expected.path, output.path) == Differences()
    (record,) = output.runs
    assert record["images"] == {
        "done": len(expected.rows) - done,
        "failed": 1,
        "skipped": done,
        "left": 0,
    }
    assert f"1 failed, {done} skipped" in result.output


def kill_a_worker(pool: int, others: set[int], masks: Path) -> None:
    """Kill one of the two workers that come beside others, once the first mask is there.

    They go on in short steps until then, so that this moment is not missed.
    """
    wait_until(lambda: len(set(workers_of(pool)) - others) == 2)
    workers = sorted(set(workers_of(pool)) - others)
    wait_until(lambda: _stand_still_with(workers, masks))
    os.kill(workers[0], signal.SIGKILL)
    os.kill(workers[1], signal.SIGCONT)


def _stand_still_with(workers: list[int], masks: Path) -> bool:
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    time.sleep(0.001)
    if any(masks.rglob("*.png")):
        return True
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class TestServicesThatAreNotThere:
    def test_no_job_service_is_named(self, refused):
        assert refused() == (2, "Error: PortableRunner: --job_endpoint HOST:PORT missing")

    def test_nobody_listens(self, refused):
        endpoint = f"localhost:{free_ports(1)[0]}"
        code, line = refused(f"--job_endpoint={endpoint}", "--job_server_timeout=1")
        assert code == 2
        assert f"--job_endpoint: no job service of Beam answers at {endpoint} within 1 s" in line

    def test_something_else_listens(self, refused, two_workers):
        code, line = refused(f"--job_endpoint={two_workers.pool_endpoint}")
        assert code == 2
        assert f"no job service of Beam answers at {two_workers.pool_endpoint}" in line

    def test_there_is_no_pool(self, refused, two_workers):
        nobody = f"localhost:{free_ports(1)[0]}"
        code, line = refused(*two_workers.options, f"--environment_config={nobody}")
        assert code == 1
        assert re.fullmatch(r"Error: PortableRunner: .*Connection refused", line)

    @pytest.fixture
    def refused(self, citymask, tmp_path, make_photo, tiny_model):
        """A function that runs a command line to its refusal; exit code and the only line."""
        make_photo(tmp_path / "photos" / "a.jpg")

        def run(*options: str) -> tuple[int, str]:
            line = ["run", tmp_path / "photos", "-o", tmp_path / "out", "--model", tiny_model]
            result = citymask(*line, "--runner=PortableRunner", *options)
            (refusal,) = result.output.splitlines()
            return result.exit_code, refusal

        return run


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "Pipeline job-1 failed in state FAILED: Error running pipeline.\n"
            "Traceback (most recent call last):\n"
            '  File "a.py", line 1, in run\n    f()\n    ^^^\nRuntimeError: Traceback '
            '(most recent call last):\n  File "b.py", line 2, in f\n'
            "transforms.storage.files.StorageError: /out/x: No space left [while running 'A/B']\n",
            "transforms.storage.files.StorageError: /out/x: No space left",
        ),
        (
            "java.lang.RuntimeError: Error received from SDK harness: Traceback (most recent call "
            'last):\n  File "b.py", line 2, in f\nValueError: two\nlines\n\n\tat org.apache.X(X)\n'
            "\tat org.apache.Y(Y)\n",
            "ValueError: two lines",
        ),
        ("Pipeline job-1 failed in state CANCELLED: unknown", None),
    ],
    ids=["python", "java", "no stack"],
)
def test_of_stack_traces_the_last_error_is_shown(text, error):
    assert last_error(text) == (error or text)


def test_the_commands_of_the_page(archive, tiny_model, expected, output, tmp_path):
    job_port, pool_port = free_ports(2)
    words = {
        "PHOTOS": str(archive), "OUT": str(output.path), "MODEL": str(tiny_model),
        "8099": str(job_port), "50000": str(pool_port),
        "--service_port=50000": f"--service_port={pool_port}",
        "localhost:8099": f"localhost:{job_port}", "localhost:50000": f"localhost:{pool_port}",
    }  # fmt: skip
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = [block.replace("\\\n", "") for block in blocks]
    service, pool, run = ([words.get(w, w) for w in shlex.split(line)] for line in lines)
    settings = {"env": environment(tmp_path), "cwd": tmp_path}
    with (
        started(service, tmp_path / "service.log", **settings),
        started(pool, tmp_path / "pool.log", **settings),
    ):
        wait_for(job_port)
        wait_for(pool_port)
        done = subprocess.run(run, **settings, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert differences(expected.path, output.path) == Differences()
    assert output.summary == expected.summary
