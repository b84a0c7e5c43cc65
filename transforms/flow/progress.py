"""Progress as log records: how many images each step has finished.

Logging reaches every thread of the process, and runners forward it between processes, so a progress
bar needs no channel of its own. The records have level DEBUG: a remote worker has no listener, and
a disabled record costs one comparison.
"""

import logging

logger = logging.getLogger(__name__)

COUNTS = "counts"
"""Attribute of a progress record: a dictionary of image counts by outcome."""


def report(**counts: int) -> None:
    """Report how many images were `found`, `skipped`, `done` or `failed`."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("%s", counts, extra={COUNTS: counts})
