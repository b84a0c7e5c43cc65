"""Standard streams that are closed, full, or a pipe that nobody reads: no work is lost over them.

Schedulers and daemons start commands without some streams. Python then has None in place of
`sys.stderr`, and the next file that is opened gets the free number: what a library writes to
standard error would end up in it.
"""

import errno
import io
import os
import select
import sys
from typing import Any

STDOUT, STDERR = 1, 2
"""Numbers of the descriptors; 0 is standard input."""


class UnprintedError(Exception):
    """Standard output cannot be written; the message says why in one line.

    Attributes:
        unwanted: whether the reader of a pipe has left, as `head` does once it has enough.
    """

    def __init__(self, error: OSError):
        super().__init__(f"standard output cannot be written: {error.strerror}")
        self.unwanted = error.errno == errno.EPIPE


def secure() -> None:
    """Make all three streams usable; call it before a file is opened.

    What cannot be written to standard error is left out. What cannot be written to standard output
    raises `UnprintedError`, once. Streams that a caller has put in place of Python's own stay.
    """
    absent = [number for number in range(3) if not _is_open(number)]
    for number in absent:
        os.open(os.devnull, os.O_RDWR)  # Gets the lowest free number, which is this one.
        os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is sys.__stdout__:
        output = _Stream(STDOUT, needed=True, absent=STDOUT in absent)
        sys.stdout = _text(output, sys.__stdout__)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Stream(STDERR), sys.__stderr__)


def results_are_in_files() -> None:
    """Say that what is printed from now on only tells of files: if it cannot be, it is left out."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Stream):
        raw.needed = False


class _Stream(io.FileIO):
    """A descriptor that is written to as far as that is possible.

    Attributes:
        needed: whether a write that fails raises `UnprintedError`.
    """

    def __init__(self, number: int, needed: bool = False, absent: bool = False):
        super().__init__(number, "w", closefd=False)
        self.needed = needed
        self._absent = absent

    def write(self, data: Any) -> int:
        try:
            if self._absent:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            while (written := super().write(data)) is None:  # Not blocking, and full for now.
                select.select([], [self], [])
            return written
        except OSError as error:
            if self.needed:
                self.needed = False
                raise UnprintedError(error) from error
            return len(data)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _text(stream: _Stream, replaced: Any) -> io.TextIOWrapper:
    """A text stream in the encoding of the one that it replaces; it prints any text somehow."""
    return io.TextIOWrapper(
        io.BufferedWriter(stream),
        encoding=getattr(replaced, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )
