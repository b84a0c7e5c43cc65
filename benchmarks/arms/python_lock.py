"""`citymask run`, with the share of its CPU time during which a thread holds Python's lock (GIL).

The kernel interrupts the program once per tick of its CPU time, in the thread that is running. The
handler, which is compiled as it must not need the lock, counts the ticks with and without it. So
other programs on the machine do not matter. Linux only.
"""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numba

from benchmarks.arms import citymask

TICK_SECONDS = 0.001
"""CPU time between two interrupts; the kernel may make it longer."""

_C = ctypes.CDLL(None)
_has_lock = ctypes.CFUNCTYPE(ctypes.c_int)(("PyGILState_Check", _C))
_C.signal.restype = ctypes.c_void_p
_add = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint64)(("eventfd_write", _C))


def run(archive: Path, output: Path, model: str) -> dict[str, int]:
    with counted() as ticks:
        citymask.run(archive, output, model)
    return asdict(ticks)


@dataclass
class Ticks:
    """Ticks of this process's CPU time in threads that hold Python's lock, and in others."""

    with_lock: int = 0
    without_lock: int = 0


@contextmanager
def counted() -> Iterator[Ticks]:
    """As a context, ticks to be read once it is closed."""
    held, free = (os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(2))

    @numba.cfunc("void(int32)")
    def tick(_):
        _add(held if _has_lock() else free, 1)

    before = _C.signal(signal.SIGPROF, ctypes.c_void_p(tick.address))
    signal.setitimer(signal.ITIMER_PROF, TICK_SECONDS, TICK_SECONDS)
    ticks = Ticks()
    try:
        yield ticks
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        _C.signal(signal.SIGPROF, ctypes.c_void_p(before))
        ticks.with_lock, ticks.without_lock = (os.eventfd_read(fd) - 1 for fd in (held, free))
        os.close(held)
        os.close(free)
