"""Units: images are grouped into work units, the same ones in every run."""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.metrics import Metrics

from transforms.flow.records import ImageRef, UnitResult, WorkUnit
from transforms.planning.counters import BEYOND, COUNTERS, UNITS

DEFAULT_UNIT_SIZE = 128
UNITS_PER_BUCKET = 16
BYTES_PER_BUCKET = 64 << 20
TAKEN = "taken"


def bucket_of(ref: ImageRef, images: int, unit_size: int) -> str:
    """A key that brings together a few units' worth of images which are best read together."""
    if ref.container:
        return f"{ref.path}@{ref.offset // BYTES_PER_BUCKET}"
    buckets = -(-images // (unit_size * UNITS_PER_BUCKET))
    return str(zlib.crc32(ref.image.encode()) % buckets)


def make_units(refs: Iterable[ImageRef], unit_size: int, model: str) -> Iterator[WorkUnit]:
    """Cut images into work units, the same ones whatever order the images come in."""
    ordered = sorted(refs, key=lambda ref: (ref.path, ref.offset, ref.image))
    for start in range(0, len(ordered), unit_size):
        members = tuple(ordered[start : start + unit_size])
        yield WorkUnit(_unit_id(members, model), members)


@dataclass
class GroupIntoUnits(beam.PTransform):
    """Groups images into work units: PCollection[ImageRef] -> PCollection[WorkUnit].

    Attributes:
        model: the `model_id` they are for; part of the units' ids.
        unit_size: most images in a unit.
    """

    model: str
    unit_size: int = DEFAULT_UNIT_SIZE

    def expand(self, refs: beam.PCollection[ImageRef]) -> beam.PCollection[WorkUnit]:
        count = refs | "CountImages" >> beam.combiners.Count.Globally().without_defaults()
        images = beam.pvalue.AsSingleton(count, default_value=0)
        return (
            refs
            | "KeyByBucket"
            >> beam.Map(_with_bucket, images, self.unit_size).with_output_types(
                tuple[str, ImageRef]
            )
            | "GroupBuckets" >> beam.GroupByKey()
            | "CutUnits"
            >> beam.FlatMap(_cut_units, self.unit_size, self.model).with_output_types(WorkUnit)
        )


@dataclass
class TakeImages(beam.PTransform):
    """Takes work units up to a number of images, in the order of their first paths.

    PCollection[WorkUnit] -> `taken` PCollection[WorkUnit] and `beyond` PCollection[UnitResult] of
    images that are left. The unit that crosses the limit is cut.

    Attributes:
        model: the `model_id` the units are for.
        images: how many images to take.
    """

    model: str
    images: int

    def expand(self, units: beam.PCollection[WorkUnit]):
        shares = (
            units
            | "Size" >> beam.Map(lambda unit: (unit.refs[0].path, unit.unit_id, len(unit.refs)))
            | "Sizes" >> beam.combiners.ToList()
            | "Share" >> beam.Map(_share, self.images)
        )
        taken = units | "Take" >> beam.FlatMap(
            _take, self.model, beam.pvalue.AsSingleton(shares)
        ).with_outputs(TAKEN, BEYOND)
        return {TAKEN: taken[TAKEN], BEYOND: taken[BEYOND]}


def _with_bucket(ref: ImageRef, images: int, unit_size: int) -> tuple[str, ImageRef]:
    return bucket_of(ref, images, unit_size), ref


def _cut_units(
    bucket: tuple[str, Iterable[ImageRef]], unit_size: int, model: str
) -> Iterator[WorkUnit]:
    for unit in make_units(bucket[1], unit_size, model):
        Metrics.counter(COUNTERS, UNITS).inc()
        yield unit


def _share(sizes: Iterable[tuple[str, str, int]], images: int) -> dict[str, int]:
    """How many images of each unit are taken."""
    shares = {}
    for _, unit_id, size in sorted(sizes):
        shares[unit_id] = min(size, images)
        images -= shares[unit_id]
    return shares


def _take(unit: WorkUnit, model: str, shares: dict[str, int]) -> Iterator[beam.pvalue.TaggedOutput]:
    kept, left = unit.refs[: shares[unit.unit_id]], unit.refs[shares[unit.unit_id] :]
    if kept:
        part = WorkUnit(_unit_id(kept, model), kept) if left else unit
        yield beam.pvalue.TaggedOutput(TAKEN, part)
    if left:
        Metrics.counter(COUNTERS, BEYOND).inc(len(left))
        yield beam.pvalue.TaggedOutput(BEYOND, UnitResult(unit.unit_id, (), (), left=left))


def _unit_id(refs: Sequence[ImageRef], model: str) -> str:
    """A name made from what a unit is to do, so that the same work has the same name.

    What is done anew has another name than at first: its file must not take the place of rows that
    stand until it is whole.
    """
    digest = hashlib.sha256(model.encode())
    for ref in refs:
        digest.update(f"\0{ref.image}\0{ref.version}\0{ref.replaces}".encode())
    return digest.hexdigest()[:20]
