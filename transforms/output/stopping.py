"""Stopping: a run finishes the work units it has started and leaves the others to the next run.

The request to stop is a file in the output folder; every process checks for it before it starts a
work unit.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from transforms import storage
from transforms.output import locking

logger = logging.getLogger(__name__)

STOP = f"{storage.WORK_FOLDER}/stop"

MAX_IMAGES = "max_images"
MAX_MINUTES = "max_minutes"
STORAGE_ERRORS = "storage_errors"
"""Reasons to stop, in addition to the names of signals."""


def request(output: str, reason: str) -> None:
    """Ask the run that writes to `output` to stop; raises StorageError."""
    storage.write(output, STOP, reason.encode())


def request_soon(output: str, reason: str) -> threading.Thread:
    """Like `request`, but in a thread that logs an error instead of raising it."""
    thread = threading.Thread(target=_request, args=(output, reason), name="stop", daemon=True)
    thread.start()
    return thread


def reason(output: str) -> str | None:
    """Why the run that writes to `output` was asked to stop; None if it was not."""
    try:
        return storage.read(f"{output}/{STOP}").decode()
    except storage.MissingError:
        return None


def must_stop(output: str, run_id: str) -> bool:
    """Whether the run was asked to stop, or has died and another run took over its folder."""
    owner = locking.holder(output)
    taken_over = owner is not None and owner.run_id != run_id
    return taken_over or reason(output) is not None


def withdraw(output: str) -> None:
    """Remove the request made to an earlier run."""
    if storage.exists(f"{output}/{STOP}"):
        storage.remove(output, STOP)


@contextmanager
def after(output: str, minutes: float | None) -> Iterator[None]:
    """Context manager: asks the run to stop after the given minutes; None: never."""
    if minutes is None:
        yield
        return
    timer = threading.Timer(minutes * 60, _request, (output, MAX_MINUTES))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _request(output: str, reason: str) -> None:
    try:
        request(output, reason)
    except storage.StorageError as error:
        logger.error("the run cannot be asked to stop: %s", error)
