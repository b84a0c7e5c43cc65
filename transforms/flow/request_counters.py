"""Requests to remote storage as Beam counters, summed over all workers."""

from apache_beam.metrics import Metrics

from transforms.storage import metering

COUNTERS = "citymask.requests"
"""Namespace of the counters; `storage.metering` defines their names."""


def report() -> None:
    """Count the requests of this process since its last report; call it from a DoFn."""
    for name, number in metering.take().items():
        Metrics.counter(COUNTERS, name).inc(number)
