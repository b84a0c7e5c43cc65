"""A pool of workers for jobs of Beam's portable runners: it starts a process for each worker.

As a module it is one such worker:

    python -m pipeline.runners.pool HOST:PORT WORKER_ID

It differs from Beam's own pool, `apache_beam.runners.worker.worker_pool_main`, in three things.
Workers run this Python, not the first one on the PATH. What they print is not held in a pipe that
nobody reads. And they import all modules before they have threads (`preloaded`).
"""

import logging
import os
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Any

from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.worker.sdk_worker import SdkHarness
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

from pipeline import streams
from pipeline.errors import ConfigurationError

logger = logging.getLogger(__name__)


class WorkerPool(BeamFnExternalWorkerPoolServicer):
    """Starts and stops workers when a runner asks for it."""

    def StartWorker(  # noqa: N802 - the name in Beam's protocol
        self, request: beam_fn_api_pb2.StartWorkerRequest, context: Any
    ) -> beam_fn_api_pb2.StartWorkerResponse:
        """Start a process for the worker; the runner sees an error if that fails."""
        command = [sys.executable, "-m", __name__, request.control_endpoint.url, request.worker_id]
        logger.info("worker %s of %s", request.worker_id, request.control_endpoint.url)
        try:
            worker = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        except OSError as error:
            return beam_fn_api_pb2.StartWorkerResponse(error=str(error))
        self._worker_processes[request.worker_id] = worker
        return beam_fn_api_pb2.StartWorkerResponse()


def serve(port: int) -> None:
    """Start workers when runners ask for them on a port of this machine, until Ctrl-C.

    Raises:
        ConfigurationError: the port is in use, or not allowed.
    """
    try:
        socket.create_server(("", port)).close()  # gRPC would share the port with another pool.
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ConfigurationError(
            f"--port: {port} cannot be listened on ({reason}); give one that is free"
        ) from error
    _, server = WorkerPool.start(use_process=True, port=port)
    logger.info("a runner gets workers at port %d", port)
    with suppress(KeyboardInterrupt):
        server.wait_for_termination()  # Then the workers end, at the exit of this process.


def work(endpoint: str, worker_id: str) -> None:
    """Be a worker until the runner ends it.

    Args:
        endpoint: `HOST:PORT` from which the runner gives work.
        worker_id: by which the runner knows this worker.
    """
    import pipeline.runners.preloaded  # noqa: F401 - before there are threads

    # Two settings of Beam's own pool: no state is kept, and output is not held back.
    SdkHarness(
        endpoint, worker_id=worker_id, state_cache_size=0, data_buffer_time_limit_ms=-1
    ).run()


if __name__ == "__main__":
    streams.secure()
    work(*sys.argv[1:])
