"""Dates: selecting images by the day they were taken or arrived."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from transforms import storage
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

    def __str__(self) -> str:
        return f"{self.first or ''}..{self.last or ''} by {self.by}"


def arrival_date(ref: ImageRef) -> date | None:
    """The day of the last change of the image's file, UTC.

    None if the file is inaccessible, or changed in a year that no calendar has.
    """
    changed = storage.modified_at(ref.version)
    return changed.date() if changed else None


def capture_date(ref: ImageRef) -> date | None:
    """The day on which a photo was taken, or None if it is unknown.

    A photo without metadata is read for its EXIF tags.
    """
    taken = ref.capture.captured_at
    if taken is None:
        try:
            taken = decoding.capture_of(read_image(ref)).captured_at
        except (storage.StorageError, members.ShardError, decoding.DecodeError):
            return None
    return taken.date() if taken else None


DATE_OF: dict[str, Callable[[ImageRef], date | None]] = {
    ARRIVAL: arrival_date,
    CAPTURE: capture_date,
}


def _itself(ref: ImageRef) -> ImageRef:
    return ref


@dataclass
class OnDates(beam.PTransform):
    """Keeps the images of a range of days: PCollection[T] -> PCollection[T].

    Attributes:
        days: the days.
        ref_of: the ImageRef of an element; by default the elements are ImageRefs.
    """

    days: DateRange
    ref_of: Callable[[Any], ImageRef] = _itself

    def expand(self, images: beam.PCollection) -> beam.PCollection:
        kept = beam.FlatMap(_on_dates, self.days, self.ref_of)
        return images | "OnDates" >> kept.with_output_types(images.element_type)


def _on_dates(image: Any, days: DateRange, ref_of: Callable[[Any], ImageRef]) -> Iterator[Any]:
    if DATE_OF[days.by](ref_of(image)) in days:
        yield image
    else:
        Metrics.counter(COUNTERS, OUTSIDE).inc()
