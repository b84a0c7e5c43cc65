"""Planning: which images are still to do, under which names, in which work units."""

import hashlib
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows

from transforms import columns, names, progress, rows
from transforms.records import Block, Container, ImageRef, WorkUnit

COUNTERS = "citymask.planning"
"""Namespace of the Beam counters of this step: `skipped`, `replaced`, `duplicates`, `units`."""

DEFAULT_UNIT_SIZE = 128
UNITS_PER_BUCKET = 16
BYTES_PER_BUCKET = 64 << 20

NAME_BUCKETS = 256
BLOCK_SIZE = 512
"""What is joined by name crosses the shuffle in blocks: one element at a time costs far more."""

TODO = "todo"
SKIPPED = "skipped"
SUPERSEDED = "superseded"

REFS = "refs"
ROWS = "rows"
FAILED = "failed"


@dataclass(frozen=True)
class Superseded:
    """A committed row that has to go.

    Attributes:
        image: the image it is of.
        file: the statistics file it is in.
        doubled: whether a newer row of the image stands already; else it goes when that is written.
    """

    image: str
    file: str
    doubled: bool = False


@dataclass(frozen=True)
class SkippedImages:
    """So many images of one group are done already."""

    group: str
    images: int


@dataclass(frozen=True)
class Plan:
    """What is to become of the images that share a name.

    Attributes:
        todo: images without a row of this version; their `mask` and `attempts` are set.
        skipped: images that are done.
        superseded: rows of earlier versions of images that are to do, and doubled rows.
        duplicates: references dropped because another INPUT names the same image.
    """

    todo: tuple[ImageRef, ...]
    skipped: tuple[ImageRef, ...]
    superseded: tuple[Superseded, ...]
    duplicates: int


def plan_images(
    refs: Sequence[ImageRef],
    committed: Sequence[rows.CommittedRow],
    failures: Iterable[rows.PastFailure],
    mask_folder: str,
    fold_case: bool = False,
) -> Plan:
    """Compare the images that share a base name with the rows and failures of that name.

    One image given twice is done once. Different images of one name keep apart: a name belongs to
    the image that has a row under it, else to the first by URI, and the others get
    `names.distinct_name`. So no mask lands on another, and a later run gives the same names.

    Args:
        refs: listed images.
        committed: rows of the current model.
        failures: past failures, of any version.
        mask_folder: folder of the masks below the output folder.
        fold_case: whether names that differ only in case are one name in the output folder.
    """

    def place(image: str) -> str:
        return image.casefold() if fold_case else image

    if _is_plainly_done(refs, committed):
        return Plan((), tuple(refs), (), 0)
    standing: dict[str, rows.CommittedRow] = {}
    superseded = []
    for row in sorted(committed, key=lambda row: row.run_id, reverse=True):
        if row.image in standing:
            superseded.append(Superseded(row.image, row.file, doubled=True))
        else:
            standing[row.image] = row
    owners = {place(image): row for image, row in standing.items()}
    rows_of_uri = Counter(row.uri for row in standing.values())
    own_names = {row.uri: row.image for row in standing.values() if rows_of_uri[row.uri] == 1}
    attempts: dict[tuple[str, str], int] = {}
    for failure in failures:
        key = (failure.image, failure.version)
        attempts[key] = max(attempts.get(key, 0), failure.attempts)

    todo, skipped, taken = [], [], set()
    by_source = {f"{ref.uri}@{ref.offset}": ref for ref in refs}
    for source, ref in sorted(
        by_source.items(), key=lambda item: (item[1].uri not in own_names, item[0])
    ):
        image = own_names.get(ref.uri, ref.image)
        owner = owners.get(place(image))
        if place(image) in taken or (owner and not _same_image(owner, image, ref)):
            image = names.distinct_name(ref.image, source)
        taken.add(place(image))
        ref = replace(ref, image=image, mask=names.mask_path(mask_folder, image))
        current = standing.get(image)
        if current is not None and current.version == ref.version:
            skipped.append(ref)
            continue
        if current is not None:
            superseded.append(Superseded(image, current.file))
        todo.append(replace(ref, attempts=attempts.get((image, ref.version), 0)))
    return Plan(tuple(todo), tuple(skipped), tuple(superseded), len(refs) - len(by_source))


def _is_plainly_done(refs: Sequence[ImageRef], committed: Sequence[rows.CommittedRow]) -> bool:
    """Whether one image and one row fit in all: true for nearly all images on most nights."""
    if len(refs) != 1 or len(committed) != 1:
        return False
    (ref,), (row,) = refs, committed
    return (ref.image, ref.uri, ref.version) == (row.image, row.uri, row.version)


def _same_image(row: rows.CommittedRow, image: str, ref: ImageRef) -> bool:
    """Whether a row is of this image: the same URI, or unchanged at another place."""
    return row.image == image and (row.uri == ref.uri or row.version == ref.version)


def bucket_of(ref: ImageRef, images: int, unit_size: int) -> str:
    """A key that brings together a few units' worth of images which are best read together."""
    if ref.container is not Container.FILE:
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
class DropDone(beam.PTransform):
    """Compares the listed images with the rows of an output folder.

    PCollection[ImageRef] -> `todo` PCollection[ImageRef], `skipped` PCollection[SkippedImages] and
    `superseded` PCollection[Superseded]. An image is done when a row of this image, version and
    model is committed.

    Attributes:
        output: the output folder.
        model: the `model_id` whose rows count.
        mask_folder: folder of the masks below `output`.
        fold_case: whether `output` takes names that differ only in case for one.
    """

    output: str
    model: str
    mask_folder: str = columns.MASKS
    fold_case: bool = False

    def expand(self, refs: beam.PCollection[ImageRef]):
        start = refs.pipeline | "Output" >> beam.Create([self.output])
        committed = (
            start
            | "FindRows" >> beam.FlatMap(rows.parquet_files, columns.STATISTICS)
            | "SpreadRowFiles" >> beam.Reshuffle()
            | "ReadRows" >> beam.FlatMap(rows.committed_rows, self.model)
            | "BlockRows" >> beam.ParDo(_Block())
        )
        failed = (
            start
            | "FindFailures" >> beam.FlatMap(rows.parquet_files, columns.FAILURES)
            | "SpreadFailureFiles" >> beam.Reshuffle()
            | "ReadFailures" >> beam.FlatMap(rows.past_failures)
            | "BlockFailures" >> beam.ParDo(_Block())
        )
        listed = refs | "BlockRefs" >> beam.ParDo(_Block())
        planned = (
            {REFS: listed, ROWS: committed, FAILED: failed}
            | "JoinByName" >> beam.CoGroupByKey()
            | "Plan"
            >> beam.ParDo(_Plan(self.mask_folder, self.fold_case)).with_outputs(
                TODO, SKIPPED, SUPERSEDED
            )
        )
        return {name: planned[name] for name in (TODO, SKIPPED, SUPERSEDED)}


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
        images = beam.pvalue.AsSingleton(refs | "CountImages" >> beam.combiners.Count.Globally())
        return (
            refs
            | "KeyByBucket"
            >> beam.Map(_with_bucket, images, self.unit_size).with_output_types(
                tuple[str, ImageRef]
            )
            | "GroupBuckets" >> beam.GroupByKey()
            | "CutUnits"
            >> beam.FlatMap(_cut_units, self.unit_size, self.model).with_output_types(WorkUnit)
            | "SpreadUnits" >> beam.Reshuffle()
        )


class _Block(beam.DoFn):
    """Gathers what has a name into blocks: T -> (bucket of the name, Block of T)."""

    def start_bundle(self):
        self._blocks = defaultdict(list)

    def process(self, item) -> Iterator[tuple[int, Block]]:
        bucket = zlib.crc32(_shared_name(item).encode()) % NAME_BUCKETS
        block = self._blocks[bucket]
        block.append(item)
        if len(block) == BLOCK_SIZE:
            yield bucket, Block(tuple(self._blocks.pop(bucket)))

    def finish_bundle(self):
        for bucket, items in self._blocks.items():
            yield GlobalWindows.windowed_value((bucket, Block(tuple(items))))
        del self._blocks


class _Plan(beam.DoFn):
    def __init__(self, mask_folder: str, fold_case: bool):
        self._mask_folder = mask_folder
        self._fold_case = fold_case

    def process(self, element):
        _, joined = element
        by_name: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
        for kind, blocks in joined.items():
            for block in blocks:
                for item in block.items:
                    by_name[_shared_name(item)][kind].append(item)
        skipped: Counter[str] = Counter()
        duplicates = replaced = 0
        for of_name in by_name.values():
            plan = plan_images(
                of_name[REFS], of_name[ROWS], of_name[FAILED], self._mask_folder, self._fold_case
            )
            skipped.update(ref.group for ref in plan.skipped)
            duplicates += plan.duplicates
            replaced += len(plan.superseded)
            for name in (TODO, SUPERSEDED):
                for item in getattr(plan, name):
                    yield beam.pvalue.TaggedOutput(name, item)
        for group, images in skipped.items():
            yield beam.pvalue.TaggedOutput(SKIPPED, SkippedImages(group, images))
        Metrics.counter(COUNTERS, "skipped").inc(skipped.total())
        Metrics.counter(COUNTERS, "replaced").inc(replaced)
        Metrics.counter(COUNTERS, "duplicates").inc(duplicates)
        progress.report(skipped=skipped.total() + duplicates)


def _shared_name(item: ImageRef | rows.CommittedRow | rows.PastFailure) -> str:
    """What images must share to be joined: their names without what tells them apart."""
    return names.base_name(item.image).casefold()


def _with_bucket(ref: ImageRef, images: int, unit_size: int) -> tuple[str, ImageRef]:
    return bucket_of(ref, images, unit_size), ref


def _cut_units(
    bucket: tuple[str, Iterable[ImageRef]], unit_size: int, model: str
) -> Iterator[WorkUnit]:
    for unit in make_units(bucket[1], unit_size, model):
        Metrics.counter(COUNTERS, "units").inc()
        yield unit


def _unit_id(refs: Sequence[ImageRef], model: str) -> str:
    digest = hashlib.sha256(model.encode())
    for ref in refs:
        digest.update(f"\0{ref.image}\0{ref.version}".encode())
    return digest.hexdigest()[:20]
