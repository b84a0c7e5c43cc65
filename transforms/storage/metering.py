"""Metering: the requests to remote stores and their bytes, counted in this process."""

import threading
from collections import Counter

LIST = "list"
LOOK = "look"
READ = "read"
WRITE = "write"
REMOVE = "remove"
"""Kinds of requests; every try counts, so a retry is a request as well."""

BYTES_READ = "bytes_read"
BYTES_WRITTEN = "bytes_written"
"""Bytes of the files that were read or written, each once."""

_lock = threading.Lock()
_counts: Counter[str] = Counter()


def count(kind: str, number: int = 1) -> None:
    """Add to one of the counts that this module names."""
    with _lock:
        _counts[kind] += number


def take() -> dict[str, int]:
    """The counts since they were last taken, by any thread."""
    with _lock:
        taken = dict(_counts)
        _counts.clear()
    return taken
