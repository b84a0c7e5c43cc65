"""Outages: a run whose photos can no longer be read for reasons of storage is asked to stop."""

import logging
from collections import deque
from threading import Lock

from transforms.output import stopping

logger = logging.getLogger(__name__)

LAST_READS = 32
"""How many of the last reads are looked at."""

MOST_FAILED = LAST_READS // 2
"""So many of them that fail are an outage."""


class OutageWatch:
    """Sees how reading ends, in all threads, and asks the run to stop once most reads fail.

    Args:
        output: the output folder of the run.
        owner: who holds its lock, see `fencing.check`.
    """

    def __init__(self, output: str, owner: str = ""):
        self._output = output
        self._owner = owner
        self._lock = Lock()
        self._last: deque[bool] = deque(maxlen=LAST_READS)
        self._asked = False

    def saw(self, failed: bool) -> None:
        """Note a read, and whether it failed for reasons of storage."""
        with self._lock:
            self._last.append(failed)
            if self._asked or sum(self._last) < MOST_FAILED:
                return
            self._asked = True
        logger.error(
            "%d of the last %d photos cannot be read for reasons of storage; the run stops",
            sum(self._last), len(self._last),
        )  # fmt: skip
        stopping.request_soon(self._output, stopping.STORAGE_ERRORS, self._owner)
