"""Dates: selecting images by the day they were taken or arrived."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import apache_beam as beam
from apache_beam.metrics import Metrics

from transforms import storage
from transforms.flow.alone import Caller, call_here
from transforms.flow.records import ImageRef
from transforms.inputs import members
from transforms.inputs.reading import read_image
from transforms.photos import decoding

COUNTERS = "citymask.dates"
"""Namespace of the Beam counter of this step, `outside`."""

OUTSIDE = "outside"

ARRIVAL = "arrival"
CAPTURE = "capture"


@dataclass(frozen=True)
class DateRange:
    """A range of days, both ends included.

    Attributes:
        first: the first day; None: open.
        last: the last day; None: open.
        by: `arrival`, the last change of the file or shard in UTC; or `capture`, the day the photo
            was taken, from its metadata, else from its EXIF tags.
    """

    first: date | None
    last: date | None
    by: str = ARRIVAL

    def __contains__(self, day: date | None) -> bool:
        """Whether a day is in the range; an unknown one is not."""
        return (
            day is not None
            and (self.first is None or self.first <= day)
            and (self.last is None or day <= self.last)
        )

    def reads(self, ref: ImageRef) -> bool:
        """Whether a photo must be read to know its day."""
        return self.by == CAPTURE and ref.capture.captured_at is None

    def date_of(self, ref: ImageRef, call: Caller = call_here) -> date | None:
        """The day of an image, see `arrival_date` and `capture_date`; None if it is unknown."""
        return arrival_date(ref) if self.by == ARRIVAL else capture_date(ref, call)

    def __str__(self) -> str:
        return f"{self.first or ''}..{self.last or ''} by {self.by}"


def arrival_date(ref: ImageRef) -> date | None:
    """The day of the last change of the image's file, UTC.

    None if the file is inaccessible, or changed in a year that no calendar has.
    """
    changed = storage.modified_at(ref.version)
    return changed.date() if changed else None


def capture_date(ref: ImageRef, call: Caller = call_here) -> date | None:
    """The day on which a photo was taken, or None if it is unknown.

    A photo without metadata is read for its EXIF tags.

    Args:
        ref: the image.
        call: calls the function that reads the tags.
    """
    taken = ref.capture.captured_at
    if taken is None:
        try:
            taken = call(decoding.capture_of, read_image(ref)).captured_at
        except (storage.StorageError, members.ShardError, decoding.DecodeError):
            return None
    return taken.date() if taken else None


@dataclass
class OnDates(beam.PTransform):
    """Keeps the images of a range of days: PCollection[ImageRef] -> PCollection[ImageRef].

    Attributes:
        days: the days.
    """

    days: DateRange

    def expand(self, refs: beam.PCollection[ImageRef]) -> beam.PCollection[ImageRef]:
        return refs | "OnDates" >> beam.FlatMap(_on_dates, self.days).with_output_types(ImageRef)


def _on_dates(ref: ImageRef, days: DateRange) -> Iterator[ImageRef]:
    if days.date_of(ref) in days:
        yield ref
    else:
        Metrics.counter(COUNTERS, OUTSIDE).inc()
