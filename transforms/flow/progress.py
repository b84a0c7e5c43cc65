"""Progress as log records: what each step has finished, for whoever listens.

Logging reaches every thread of the process, and runners carry it across processes, so that a
progress bar needs no channel of its own. The records are of level DEBUG: nobody listens on a
remote worker, and a record that nobody wants costs one comparison.
"""

import logging

logger = logging.getLogger(__name__)

COUNTS = "counts"
"""Attribute of a progress record: a dictionary of how many images moved on, by what happened."""


def report(**counts: int) -> None:
    """Tell listeners that images were `found`, `skipped`, `done` or `failed`."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("%s", counts, extra={COUNTS: counts})
