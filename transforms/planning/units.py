"""Units: images are grouped into work units, the same ones in every run."""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics

from transforms.flow.records import ImageRef, PlannedImage, UnitResult, WorkUnit
from transforms.planning.counters import BEYOND, COUNTERS, UNITS

DEFAULT_UNIT_SIZE = 128
UNITS_PER_BUCKET = 16
BYTES_PER_BUCKET = 64 << 20
SUSPECTS_PER_UNIT = 16
"""Suspects are done one by one: a stop waits for the others of the unit, a kill costs them."""

TAKEN = "taken"


def bucket_of(ref: ImageRef, images: int, unit_size: int) -> str:
    """A key shared by a few units' worth of images that are best read together."""
    if ref.container:
        return f"{ref.path}@{ref.offset // BYTES_PER_BUCKET}"
    buckets = -(-images // (unit_size * UNITS_PER_BUCKET))
    return str(zlib.crc32(ref.image.encode()) % buckets)


def make_units(images: Iterable[PlannedImage], unit_size: int, model: str) -> Iterator[WorkUnit]:
    """Cut images into work units, the same ones whatever order the images come in."""
    ordered = sorted(images, key=_place)
    for start in range(0, len(ordered), unit_size):
        members = tuple(ordered[start : start + unit_size])
        yield WorkUnit(_unit_id(members, model), members)


@dataclass
class GroupIntoUnits(beam.PTransform):
    """Groups images into work units: PCollection[PlannedImage] -> PCollection[WorkUnit].

    The images of a unit have the same suspicion.

    Attributes:
        model: the `model_id` they are for; part of the units' ids.
        unit_size: most images in a unit.
    """

    model: str
    unit_size: int = DEFAULT_UNIT_SIZE

    def expand(self, images: beam.PCollection[PlannedImage]) -> beam.PCollection[WorkUnit]:
        count = images | "CountImages" >> beam.combiners.Count.Globally().without_defaults()
        number = beam.pvalue.AsSingleton(count, default_value=0)
        return (
            images
            | "KeyByBucket"
            >> beam.Map(_with_bucket, number, self.unit_size).with_output_types(
                tuple[tuple[int, str], PlannedImage]
            )
            | "GroupBuckets" >> beam.GroupByKey()
            | "CutUnits"
            >> beam.FlatMap(_cut_units, self.unit_size, self.model).with_output_types(WorkUnit)
        )


class Taken(NamedTuple):
    """Outputs of `TakeImages`.

    Attributes:
        units: PCollection[WorkUnit], up to the limit.
        beyond: PCollection[UnitResult], of the images that are left.
    """

    units: beam.PCollection[WorkUnit]
    beyond: beam.PCollection[UnitResult]


@dataclass
class TakeImages(beam.PTransform):
    """Takes work units up to a number of images, in the order of their first paths.

    PCollection[WorkUnit] -> Taken. The unit that crosses the limit is cut.

    Attributes:
        model: the `model_id` the units are for.
        images: how many images to take.
    """

    model: str
    images: int

    def expand(self, units: beam.PCollection[WorkUnit]) -> Taken:
        shares = (
            units
            | "Size" >> beam.Map(_size)
            | "Sizes" >> beam.combiners.ToList()
            | "Share" >> beam.Map(_share, self.images)
        )
        taken = units | "Take" >> beam.FlatMap(
            _take, self.model, beam.pvalue.AsSingleton(shares)
        ).with_outputs(TAKEN, BEYOND)
        return Taken(taken[TAKEN], taken[BEYOND])


def _place(planned: PlannedImage) -> tuple[str, int, str]:
    return planned.ref.path, planned.ref.offset, planned.ref.image


def _with_bucket(
    planned: PlannedImage, images: int, unit_size: int
) -> tuple[tuple[int, str], PlannedImage]:
    return (planned.suspicion, bucket_of(planned.ref, images, unit_size)), planned


def _cut_units(
    bucket: tuple[tuple[int, str], Iterable[PlannedImage]], unit_size: int, model: str
) -> Iterator[WorkUnit]:
    (suspicion, _), images = bucket
    most = min(unit_size, SUSPECTS_PER_UNIT) if suspicion else unit_size
    for unit in make_units(images, most, model):
        Metrics.counter(COUNTERS, UNITS).inc()
        yield unit


def _size(unit: WorkUnit) -> tuple[str, str, int]:
    return unit.images[0].ref.path, unit.unit_id, len(unit.images)


def _share(sizes: Iterable[tuple[str, str, int]], images: int) -> dict[str, int]:
    """How many images of each unit are taken."""
    shares = {}
    for _, unit_id, size in sorted(sizes):
        shares[unit_id] = min(size, images)
        images -= shares[unit_id]
    return shares


def _take(unit: WorkUnit, model: str, shares: dict[str, int]) -> Iterator[beam.pvalue.TaggedOutput]:
    share = shares[unit.unit_id]
    kept, left = unit.images[:share], unit.images[share:]
    if kept:
        part = WorkUnit(_unit_id(kept, model), kept) if left else unit
        yield beam.pvalue.TaggedOutput(TAKEN, part)
    if left:
        Metrics.counter(COUNTERS, BEYOND).inc(len(left))
        yield beam.pvalue.TaggedOutput(BEYOND, UnitResult(unit.unit_id, (), (), left=left))


def _unit_id(images: Sequence[PlannedImage], model: str) -> str:
    """A name made from the content of a unit, so that the same work has the same name.

    Images that are segmented again give another name than the first time: the new file must not
    replace current rows before it is complete.
    """
    digest = hashlib.sha256(model.encode())
    for planned in images:
        ref = planned.ref
        digest.update(f"\0{ref.image}\0{ref.version}\0{planned.replaces}".encode())
    return digest.hexdigest()[:20]
