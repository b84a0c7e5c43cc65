"""Dating: of the images that are to do, those of a range of days are kept.

Reading when a photo was taken may kill the process, so photos that are read are on record
meanwhile, and suspects are read in a process of their own. See `transforms.output.begun`.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import apache_beam as beam
from apache_beam.metrics import Metrics

from transforms.flow.alone import Alone, Caller, ProcessKilled
from transforms.flow.records import PlannedImage
from transforms.inputs.dates import COUNTERS, OUTSIDE, DateRange
from transforms.output import begun

BATCH_SIZE = 64
"""Photos that are on record together, at most."""


@dataclass
class DateImages(beam.PTransform):
    """Keeps the images of a range of days: PCollection[PlannedImage] -> PCollection[PlannedImage].

    Attributes:
        days: the days.
        records: where photos are put on record while they are read; None: nowhere.
    """

    days: DateRange
    records: begun.Records | None = None

    def expand(self, images: beam.PCollection[PlannedImage]) -> beam.PCollection[PlannedImage]:
        return (
            images
            | "BatchImages" >> beam.BatchElements(max_batch_size=BATCH_SIZE)
            | "OnDays"
            >> beam.FlatMap(_on_days, self.days, self.records).with_output_types(PlannedImage)
        )


def _on_days(
    images: Sequence[PlannedImage], days: DateRange, records: begun.Records | None
) -> Iterator[PlannedImage]:
    read = [planned for planned in images if days.reads(planned.ref)]
    suspects = {planned for planned in read if planned.suspicion}
    others = [planned for planned in read if planned not in suspects]
    with records.meanwhile(others) if records else nullcontext():
        kept = [p for p in images if p not in suspects and days.date_of(p.ref) in days]
    with Alone() as process:
        for planned in suspects:
            call = partial(records.call_alone, process, planned) if records else process.call
            if _is_on_days(planned, days, call):
                kept.append(planned)
    Metrics.counter(COUNTERS, OUTSIDE).inc(len(images) - len(kept))
    yield from kept


def _is_on_days(planned: PlannedImage, days: DateRange, call: Caller) -> bool:
    """Whether a suspect is of these days; a killer is kept, as segmenting reports it."""
    try:
        return days.date_of(planned.ref, call) in days
    except ProcessKilled:
        return True
