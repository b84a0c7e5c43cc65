"""Alone: calls functions in a process of its own, which may die of them."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from transforms.flow import alone_process

T = TypeVar("T")

Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function of a module, and its arguments; all of it can be pickled."""


Caller = Callable[..., Any]
"""Takes a function and its arguments, and returns or raises what the function does."""


def call_here(function: Callable[..., T], *args: Any) -> T:
    """The caller that calls in this process."""
    return function(*args)


class ProcessKilled(Exception):  # noqa: N818 - stands in rows, as what happened
    """The process died of a call; the message says how."""


class CannotStartError(Exception):
    """The process died while it was made ready; the message says how."""


class Alone:
    """A process for calls, one at a time; after a call that it died of, the next one has another.

    The process starts with the first call. It inherits the environment and imports what the
    functions need. Interrupts and requests to terminate do not reach it: it ends when it is closed,
    or with its parent. On Linux it ends even with the thread that started it, so let one thread do
    it all; and where memory runs out, it is the first that the kernel kills.

    Args:
        ready: called in each new process before anything else.
    """

    def __init__(self, ready: Call | None = None):
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """What a function returns, or raises.

        Raises:
            ProcessKilled: the process died of it.
            CannotStartError: a new process died before.
        """
        if self._process is None:
            self._start()
        return self._call(function, *args)

    def close(self) -> None:
        """End the process."""
        if self._connection:
            self._connection.close()
        if self._process:
            self._process.wait()
        self._process = self._connection = None

    def __enter__(self) -> "Alone":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        self._connection, far = Pipe()
        with far:
            number = far.fileno()
            self._process = subprocess.Popen(
                [sys.executable, alone_process.__file__, str(number), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=[number],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        if self._ready:
            function, args = self._ready
            try:
                self._call(function, *args)
            except ProcessKilled as error:
                raise CannotStartError(
                    f"the process for photos that may have killed one before cannot start: it "
                    f"{error}; give the run more memory"
                ) from error

    def _call(self, function: Callable[..., T], *args: Any) -> T:
        assert self._connection, "the process has started"
        try:
            self._connection.send_bytes(pickle.dumps((function, args)))
            succeeded, answer = pickle.loads(self._connection.recv_bytes())
        except (EOFError, ConnectionError) as error:
            raise ProcessKilled(self._how_it_ended()) from error
        if not succeeded:
            raise answer
        return answer

    def _how_it_ended(self) -> str:
        assert self._process, "the process has started"
        code = self._process.wait()
        self.close()
        if code == -signal.SIGKILL:
            return "was killed by SIGKILL, as the system does when memory runs out"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
