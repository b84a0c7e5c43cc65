"""How a run ends in order after an interrupt (SIGINT) or a request to terminate (SIGTERM)."""

import logging
import signal
import threading
from typing import Any

from pipeline.interrupts import SIGNALS
from transforms.output import stopping

logger = logging.getLogger(__name__)


class StopOnSignal:
    """While it is open as a context, the first signal lets a run end in order, a second at once.

    Args:
        output: the output folder of the run.
        owner: who holds its lock, see `fencing.check`.

    Attributes:
        received: the first signal, or None.
    """

    def __init__(self, output: str, owner: str = ""):
        self._output = output
        self._owner = owner
        self._asking: threading.Thread | None = None
        self.received: signal.Signals | None = None

    def __enter__(self) -> "StopOnSignal":
        self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        if self._asking:
            self._asking.join()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: Any) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            # In a thread: what the signal has interrupted may hold a lock that a request needs.
            self._asking = stopping.request_soon(self._output, self.received.name, self._owner)
            logger.info("stopping: what has begun is finished; once more to stop at once")
        else:
            self._restore()
            signal.raise_signal(number)
