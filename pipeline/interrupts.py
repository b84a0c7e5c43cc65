"""How a command ends on an interrupt (SIGINT) or a request to terminate (SIGTERM)."""

import signal
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class RaiseOnSignal:
    """Ends the command in progress with KeyboardInterrupt, and remembers the signal.

    Beam may turn the exception into another type; `received` keeps the cause.

    Attributes:
        received: the signal, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        for number in SIGNALS:
            signal.signal(number, self._receive)

    def _receive(self, number: int, _: Any) -> None:
        self.received = signal.Signals(number)
        raise KeyboardInterrupt
