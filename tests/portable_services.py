"""Job services and workers as processes of their own, for runs on a portable runner.

    python portable_services.py

is two job services like Beam's local one, and prints their ports: the first has two workers for a
job, where the original has one, the second has no metrics.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.local_job_service import BeamJob, LocalJobServicer

PATIENCE = 120
"""Seconds after which a service does not start any more."""


@contextmanager
def started(command: Sequence[object], log: Path, **settings: Any) -> Iterator[subprocess.Popen]:
    """As a context, a process that runs; it ends with all that it started."""
    with log.open("wb") as opened:
        process = subprocess.Popen(
            [str(word) for word in command],
            stderr=opened,
            start_new_session=True,
            **{"stdout": opened, **settings},
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # The test has ended it.
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def environment(temporary: Path) -> dict[str, str]:
    """What services find in their environment: first of all this Python, which a pool starts."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "TMPDIR": str(temporary)}


def free_ports(number: int) -> list[int]:
    """Ports on which nobody listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for(port: int) -> None:
    """Wait until somebody listens on a port of this machine."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("localhost", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def workers_of(pool: int) -> set[int]:
    """Process ids of the workers of a pool that are alive."""
    threads = Path(f"/proc/{pool}/task").iterdir()
    children = [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]
    return {pid for pid in children if _state(pid) != "Z"}


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class _OfTwoWorkers(BeamJob):
    def _invoke_runner(self) -> Any:
        self.set_state(beam_job_api_pb2.JobState.RUNNING)
        runner = FnApiRunner(provision_info=self._provision_info)
        runner._num_workers = 2
        return runner.run_via_runner_api(self._pipeline_proto, self.pipeline_options())


class _WithoutMetrics(LocalJobServicer):
    def GetJobMetrics(self, request: Any, context: Any = None) -> Any:  # noqa: N802
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "this runner has no metrics")


def main() -> None:
    services = [LocalJobServicer(beam_job_type=_OfTwoWorkers), _WithoutMetrics()]
    print(*(service.start_grpc_server() for service in services), flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
