"""Stopping in order: work units that have begun are finished, the others are left for the next run.

Whoever wants a run to stop leaves a file below its output folder; every process looks for it before
it takes a unit.
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
"""Reasons beside the names of signals."""


def request(output: str, reason: str) -> None:
    """Ask the run that writes to `output` to stop; raises StorageError where that is impossible."""
    storage.write(output, STOP, reason.encode())


def request_soon(output: str, reason: str) -> threading.Thread:
    """The same without waiting for it, in a thread that logs where it is impossible."""
    thread = threading.Thread(target=_request, args=(output, reason), name="stop", daemon=True)
    thread.start()
    return thread


def reason(output: str) -> str | None:
    """Why the run that writes to `output` was asked to stop; None where it was not."""
    try:
        return storage.read(f"{output}/{STOP}").decode()
    except storage.MissingError:
        return None


def must_stop(output: str, run_id: str) -> bool:
    """Whether the run was asked to stop, or has died and another one has its output folder."""
    owner = locking.holder(output)
    taken_over = owner is not None and owner.run_id != run_id
    return taken_over or reason(output) is not None


def withdraw(output: str) -> None:
    """Take back what an earlier run was asked."""
    path = f"{output}/{STOP}"
    if storage.find(path).size >= 0:
        storage.remove(path)


@contextmanager
def after(output: str, minutes: float | None) -> Iterator[None]:
    """While it is open as a context, ask the run to stop once so many minutes are over."""
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
