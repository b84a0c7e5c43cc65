"""The process of `alone.Alone`, as a script: it imports nothing but what its calls need.

Its arguments are the number of the file that connects it with its parent, and the parent's id.
"""

import sys

if __name__ == "__main__":
    del sys.path[0]  # The folder of this script, whose modules belong to a package.

import ctypes
import os
import pickle
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

PR_SET_PDEATHSIG = 1
"""Argument of prctl(2)."""

FIRST_TO_KILL = b"1000"
"""Highest value of /proc/self/oom_score_adj, see proc(5)."""


def main(file: int, parent: int) -> None:
    """Answer calls until the parent closes the connection or ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # They are for the parent, which closes in order.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            return
        with suppress(OSError), open("/proc/self/oom_score_adj", "wb") as score:
            score.write(FIRST_TO_KILL)
    serve(Connection(file))


def serve(connection: Connection) -> None:
    """Answer the calls that come through a connection until its other end is closed."""
    with connection, suppress(EOFError, ConnectionError):
        while True:
            connection.send_bytes(_answer(connection.recv_bytes()))


def _answer(call: bytes) -> bytes:
    try:
        function, args = pickle.loads(call)
        return pickle.dumps((True, function(*args)))
    except Exception as error:
        return pickle.dumps((False, _that_can_be_sent(error)))


def _that_can_be_sent(error: Exception) -> Any:
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
