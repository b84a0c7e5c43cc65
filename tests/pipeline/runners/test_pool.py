"""`citymask workers`: a pool of workers for portable runners, as a process of its own."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from pipeline.runners.options import PRELOADED, pipeline_options
from tests.portable_services import PATIENCE, environment, free_ports, started, wait_for, workers_of
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[3]
POOL = [sys.executable, "-m", "pipeline", "workers"]


@pytest.fixture
def pool(tmp_path):
    """A pool and the port where it listens."""
    (port,) = free_ports(1)
    command = [*POOL, f"--port={port}"]
    settings = {"env": environment(tmp_path), "cwd": "/"}
    with started(command, tmp_path / "pool.log", **settings) as process:
        wait_for(port)
        yield process, port


def test_workers_run_until_ctrl_c_ends_the_pool(pool):
    process, port = pool
    with socket.create_server(("localhost", 0)) as runner:  # It has no work for its worker.
        request = beam_fn_api_pb2.StartWorkerRequest(worker_id="1-1")
        request.control_endpoint.url = f"localhost:{runner.getsockname()[1]}"
        with grpc.insecure_channel(f"localhost:{port}") as channel:
            pool_of_beam = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
            assert not pool_of_beam.StartWorker(request).error
        (worker,) = workers_of(process.pid)
        runner.settimeout(PATIENCE)
        runner.accept()[0].close()  # The worker has come.
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    until(lambda: not Path(f"/proc/{worker}").exists())


def test_a_port_that_is_taken_is_named(pool):
    _, port = pool
    second = subprocess.run([*POOL, f"--port={port}"], capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert second.stderr == (
        f"Error: --port: {port} cannot be listened on (Address already in use); "
        "give one that is free\n"
    )


def test_workers_have_imported_all_modules_before_there_are_threads():
    """Later, threads would import the same packages from different ends, which may fail."""
    found = subprocess.run(
        [sys.executable, "-c", "import sys, pipeline.runners.preloaded; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    files = (path.relative_to(ROOT) for path in (ROOT / "transforms").rglob("*.py"))
    modules = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    assert modules <= set(found.stdout.split())


def test_workers_of_other_runners_import_them_too():
    options = pipeline_options({"runner": "DataflowRunner", "beam_plugins": ["mine"]})
    assert options.get_all_options()["beam_plugins"] == ["mine", PRELOADED]
