"""Runs on a portable runner: job service and workers are other processes, and share files only.

How the services are started by hand is in docs/portable.md.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import Result

from pipeline.runners.portable import last_error
from tests import portable_services
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
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "portable.md"
UNITS = ("--unit-size", "2")
COUNTED = (
    "images", "pixels", "precisions", "output_precisions", "passed_over", "bytes_in", "bytes_out",
    "batches",
)  # fmt: skip


@dataclass(frozen=True)
class Services:
    """Job services, and a pool of workers.

    Attributes:
        two_workers: where a job service listens that has two workers for a job.
        no_metrics: where one listens that has one worker for a job, and no metrics.
        pool: where the pool listens.
        pool_id: its process id.
        log: what the workers print.
    """

    two_workers: str
    no_metrics: str
    pool: str
    pool_id: int
    log: Path

    def options(self, endpoint: str) -> list[str]:
        """The command line's options for a run on a job service."""
        return [
            "--runner=PortableRunner", f"--job_endpoint={endpoint}",
            "--environment_type=EXTERNAL", f"--environment_config={self.pool}",
        ]  # fmt: skip

    def workers(self) -> set[int]:
        """Process ids of the workers that are alive."""
        return workers_of(self.pool_id)

    def engines(self) -> int:
        """How many processes have loaded an engine, which they do with their first unit."""
        return len(re.findall(r"\| +openvino$", self.log.read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def services(tmp_path_factory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("services")
    (port,) = free_ports(1)
    pool = [sys.executable, "-m", "pipeline", "workers"]
    log = folder / "workers.log"
    settings = {"env": {**environment(folder), "PYTHONPROFILEIMPORTTIME": "1"}, "cwd": "/"}
    with (
        started([*pool, f"--port={port}"], log, **settings) as workers,
        started(
            [sys.executable, portable_services.__file__],
            folder / "services.log",
            stdout=subprocess.PIPE,
            text=True,
            **settings,
        ) as job_services,
    ):
        endpoints = [f"localhost:{port}" for port in job_services.stdout.readline().split()]
        wait_for(port)
        yield Services(*endpoints, f"localhost:{port}", workers.pid, log)


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
def spread(archive, tiny_model, services, citymask, output_at, tmp_path_factory, expected):
    """The output of a run of two workers, and how many of them have segmented.

    Paths on the command line are relative, and the workers are not in this folder. They find the
    converted model of the run before.
    """
    folder = tmp_path_factory.mktemp("spread")
    before = services.engines()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = citymask(
            "run", os.path.relpath(archive), "-o", "out", "--model", os.path.relpath(tiny_model),
            *UNITS, *services.options(services.two_workers),
        )  # fmt: skip
    assert result.exit_code == 0, result.output
    return output_at(folder / "out"), services.engines() - before


class TestTwoWorkers:
    def test_give_what_one_process_gives(self, expected, spread):
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


def test_two_workers_set_the_same_photos_aside(services, tiny_model, make_photo, citymask, output):
    for seed in range(2):
        for copy in range(3):
            make_photo(output.path / "in" / str(seed) / f"{copy}.jpg", seed=seed)
    result = citymask(
        "run", output.path / "in", "-o", output.path, "--model", tiny_model, "--skip-duplicates",
        *services.options(services.two_workers),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert set(output.rows.index) == {"0/0.jpg", "1/0.jpg"}
    assert output.summary["images"] == {"done": 2, "failed": 0, "skipped": 0, "gated": 4}
    assert output.runs[0]["images"]["duplicate"] == 4


def test_the_package_of_an_imported_network_travels(
    services, imported_model, make_photo, citymask, output, monkeypatch
):
    """The path of the model is relative, and the workers are in another folder."""
    monkeypatch.chdir(imported_model.parent)
    photos = output.path / "in"
    for seed in range(2):
        make_photo(photos / f"{seed}.jpg", seed=seed)
    line = ["run", photos, "-o", output.path, "--unit-size", 1, "--model"]
    line += [imported_model.name, *services.options(services.two_workers)]
    result = citymask(*line)
    assert result.exit_code == 0, result.output
    assert len(output.rows) == 2 and set(output.rows["precision"]) == {"f32"}


def test_a_killed_worker_loses_and_doubles_nothing(
    archive, tiny_model, services, expected, citymask, output
):
    line = ["run", archive, "-o", output.path, "--model", tiny_model, *UNITS]
    line += services.options(services.no_metrics)
    others = services.workers()
    with ThreadPoolExecutor() as threads:
        killed = threads.submit(kill_worker, services, others, output.path / "masks")
        result = citymask(*line)
        killed.result()
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: PortableRunner: .*\n", result.output)
    done = len(output.rows)
    assert done < len(expected.rows)

    result = citymask(*line)
    assert result.exit_code == 0, result.output
    assert differences(expected.path, output.path) == Differences()
    (record,) = output.runs
    # These are known without metrics.
    assert record["images"] == {
        "done": len(expected.rows) - done,
        "failed": 1,
        "skipped": done,
        "left": 0,
    }
    assert record["output_precisions"] == output.summary["precisions"]
    assert sum(record["output_precisions"].values()) == len(output.rows)
    assert f"1 failed, {done} skipped" in result.output


def kill_worker(services: Services, others: set[int], masks: Path) -> None:
    """Kill the worker that comes beside others, once the first mask is there.

    It goes on in short steps until then, so that this moment is not missed.
    """
    until(lambda: services.workers() - others)
    (worker,) = services.workers() - others
    until(lambda: _stand_still_with(worker, masks), pause=0.002)
    os.kill(worker, signal.SIGKILL)


def _stand_still_with(worker: int, masks: Path) -> bool:
    os.kill(worker, signal.SIGSTOP)
    time.sleep(0.001)
    found = any(masks.rglob("*.png"))
    if not found:
        os.kill(worker, signal.SIGCONT)
    return found


@pytest.mark.parametrize("service", ["two_workers", "no_metrics"])
class TestOtherCommands:
    """They do on a job service what they do in this process, with and without its metrics."""

    @pytest.fixture
    def same(self, citymask, services, service, expected, tmp_path):
        """A function that runs a command here and on the job service, on copies of one output."""

        def run(command: str, *options: str) -> tuple[Result, Result, Path]:
            results = []
            for name, more in (
                ("here", []),
                ("there", services.options(getattr(services, service))),
            ):
                copy = shutil.copytree(expected.path, tmp_path / name / "out")
                result = citymask(command, copy, *options, *more)
                assert result.exit_code in (0, 3), result.output
                results.append(result)
            return *results, tmp_path

        return run

    def test_verify(self, same):
        here, there, _ = same("verify")
        assert (there.exit_code, there.stdout) == (here.exit_code, here.stdout)
        assert "rows are whole" in there.stdout

    def test_report(self, same):
        *_, folder = same("report", "--gallery", "3")
        written = [
            {str(p.relative_to(report)) for p in report.rglob("*") if p.is_file()}
            for report in (folder / name / "out" / "report" for name in ("here", "there"))
        ]
        assert written[0] == written[1]

    def test_export(self, same, service):
        here, there, folder = same("export", "--format", "bigquery", "--format", "coco-rle")
        for file in sorted((folder / "here" / "out" / "exports").rglob("*.json")):
            twin = folder / "there" / file.relative_to(folder / "here")
            assert twin.read_bytes() == file.read_bytes()
        photos = re.findall(r": \d+ photos", here.stdout)
        assert re.findall(r": \d+ photos", there.stdout) == (
            photos if service == "two_workers" else []
        ), "without metrics nobody counts"
        assert len(there.stdout.splitlines()) == 2

    def test_evaluate_masks(self, citymask, services, service, expected, tmp_path):
        labels = tmp_path / "valannot"
        labels.mkdir()
        masks = sorted((expected.path / "masks" / "south").glob("*.png"))
        for mask in masks:
            shutil.copy(mask, labels / f"{mask.name.partition('.')[0]}.png")
        classes = "name,red,green,blue\nSky,0,0,255\nTree top,0,128,0\nRoad,9,9,9\n"
        (tmp_path / "classes.csv").write_text(classes)
        result = citymask(
            "evaluate", *(word for mask in masks for word in ("--masks", mask)), "--data", tmp_path,
            *services.options(getattr(services, service)),
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert "mIoU 1.0000" in result.stdout


class TestServicesThatAreNotThere:
    def test_no_job_service_is_named(self, refused):
        assert refused() == (2, "Error: PortableRunner: --job_endpoint HOST:PORT missing")

    def test_nobody_listens(self, refused):
        endpoint = f"localhost:{free_ports(1)[0]}"
        code, line = refused(f"--job_endpoint={endpoint}", "--job_server_timeout=1")
        assert code == 2
        assert f"--job_endpoint: no job service of Beam answers at {endpoint} within 1 s" in line

    def test_something_else_listens(self, refused, services):
        code, line = refused(f"--job_endpoint={services.pool}")
        assert code == 2
        assert f"no job service of Beam answers at {services.pool}" in line

    def test_there_is_no_pool(self, refused, services):
        nobody = f"localhost:{free_ports(1)[0]}"
        options = services.options(services.two_workers)
        code, line = refused(*options, f"--environment_config={nobody}")
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
        "localhost:8099": f"localhost:{job_port}", "localhost:50000": f"localhost:{pool_port}",
    }  # fmt: skip
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = [block.replace("\\\n", "") for block in blocks]
    service, pool, run = ([words.get(w, w) for w in shlex.split(line)] for line in lines[:3])
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
