"""Stopping: a run finishes the work units it has started and leaves the others to the next run.

The request to stop is a file in the output folder; every process checks for it before it starts a
work unit.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from transforms import storage
from transforms.output import fencing
from transforms.output.locking import LockLostError

logger = logging.getLogger(__name__)

STOP = f"{storage.WORK_FOLDER}/stop"

MAX_IMAGES = "max_images"
MAX_MINUTES = "max_minutes"
STORAGE_ERRORS = "storage_errors"
"""Reasons to stop, in addition to the names of signals."""


def request(output: str, reason: str, owner: str = "") -> None:
    """Ask the run that writes to `output` to stop; see `fencing.write`."""
    fencing.write(output, STOP, reason.encode(), owner, durable=False)


def request_soon(output: str, reason: str, owner: str = "") -> threading.Thread:
    """Like `request`, but in a thread that logs an error instead of raising it."""
    arguments = (output, reason, owner)
    thread = threading.Thread(target=_request, args=arguments, name="stop", daemon=True)
    thread.start()
    return thread


def reason(output: str) -> str | None:
    """Why the run that writes to `output` was asked to stop; None if it was not."""
    try:
        return storage.read(f"{output}/{STOP}").decode()
    except storage.MissingError:
        return None


def must_stop(output: str, owner: str) -> bool:
    """Whether the run that holds the lock as `owner` was asked to stop.

    Raises:
        LockLostError: another has taken the folder over, see `fencing.check`.
        StorageError: the folder cannot be read.
    """
    fencing.check(output, owner)
    return reason(output) is not None


def withdraw(output: str) -> None:
    """Remove the request made to an earlier run."""
    if storage.exists(f"{output}/{STOP}"):
        storage.remove(output, STOP)


@contextmanager
def after(output: str, minutes: float | None, owner: str = "") -> Iterator[None]:
    """Context manager: asks the run of `owner` to stop after the given minutes; None: never."""
    if minutes is None:
        yield
        return
    timer = threading.Timer(minutes * 60, _request, (output, MAX_MINUTES, owner))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _request(output: str, reason: str, owner: str) -> None:
    try:
        request(output, reason, owner)
    except (storage.StorageError, LockLostError) as error:
        logger.error("the run cannot be asked to stop: %s", error)
