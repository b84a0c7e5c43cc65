"""Waiting for what other threads and processes do."""

import time
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds after which what has not come will not come."""


def until(reached: Callable[[], object], pause: float = 0.01) -> None:
    """Wait until a condition is true, with pauses of some seconds between looks."""
    end = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < end, f"not reached in {PATIENCE:g} s"
        time.sleep(pause)
