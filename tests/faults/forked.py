"""Processes for suspects as forks of one that has imported everything.

A run with suspects starts a process for them, which imports Beam anew. That takes far longer than a
run over a few photos, so where hundreds of runs are not about that process, this takes its place.
"""

import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from tests.faults.runs import PROCESSES
from transforms.flow import alone_process


class ForkedProcess:
    """Stands in for the `subprocess.Popen` that `transforms.flow.alone` starts."""

    def __init__(self, command: Sequence[str], **_: Any):
        number = int(command[-2])
        # A copy, as the caller closes its own; it is passed on when the process starts.
        with Connection(os.dup(number)) as connection:
            self._process = PROCESSES.Process(target=_serve, args=(connection,), daemon=True)
            self._process.start()

    def wait(self) -> int:
        """Wait for its end; return its exit code."""
        self._process.join()
        return self._process.exitcode


def _serve(connection: Connection) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    alone_process.serve(connection)
