"""Requests to remote storage, as Beam counters: what every worker has asked for, summed up."""

from apache_beam.metrics import Metrics

from transforms.storage import metering

COUNTERS = "citymask.requests"
"""Namespace of the counters; `storage.metering` has their names."""


def report() -> None:
    """Count what this process has asked for since it last reported; call it from a DoFn."""
    for name, number in metering.take().items():
        Metrics.counter(COUNTERS, name).inc(number)
