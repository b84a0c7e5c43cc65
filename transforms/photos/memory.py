"""Memory: large photos take turns, so that the threads of a process together stay in bounds."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Condition, Lock

SHARED_BYTES = 1 << 30
"""Memory that the threads of a process use for decoding and encoding large photos at a time. A
photo that needs more is alone."""


RETURNED_BYTES = 256 << 20
"""After as much, freed memory is given back to the system: each thread would keep its own."""


class Memory:
    """An amount of memory that threads share.

    Args:
        size: bytes.
    """

    def __init__(self, size: int):
        self._size = size
        self._used = 0
        self._turn = Lock()
        self._freed = Condition()

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        """Context manager: waits until `size` bytes are free, or nothing is in use.

        Threads are served in turn. A thread reserves once at a time.
        """
        with self._turn, self._freed:
            self._freed.wait_for(lambda: not self._used or self._used + size <= self._size)
            self._used += size
        try:
            yield
        finally:
            if size >= RETURNED_BYTES:
                _return_freed()
            with self._freed:
                self._used -= size
                self._freed.notify_all()


def _return_freed() -> None:
    with suppress(OSError, AttributeError):  # Only glibc has this function, and needs it.
        ctypes.CDLL(None).malloc_trim(0)


reserved = Memory(SHARED_BYTES).reserved
