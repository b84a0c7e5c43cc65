"""Scanning: passing over zeros and holes, of which a sparse file may claim terabytes."""

import errno
import os
from io import FileIO
from typing import BinaryIO

WINDOW_BYTES = 1 << 20
"""Bytes that are searched at a time."""


def skip_zeros(file: BinaryIO, position: int, size: int) -> int:
    """Position of the first byte from `position` on that is not zero, or `size`.

    Holes in a local file are not read.
    """
    while position < size:
        position = _after_hole(file, position, size)
        file.seek(position)
        window = file.read(WINDOW_BYTES)
        if not window:
            break
        if data := window.lstrip(b"\0"):
            return position + len(window) - len(data)
        position += len(window)
    return size


def _after_hole(file: BinaryIO, position: int, size: int) -> int:
    if not isinstance(getattr(file, "raw", None), FileIO):
        return position
    try:
        return file.seek(position, os.SEEK_DATA)
    except OSError as error:
        # Either all the rest is a hole, or the file system knows of none.
        return size if error.errno == errno.ENXIO else position
