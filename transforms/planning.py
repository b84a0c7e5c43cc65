"""Planning: which images are still to do, under which names, in which work units."""

import hashlib
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import apache_beam as beam
from apache_beam.metrics import Metrics

from transforms import columns, findings, names, progress, rows, storage
from transforms.blocks import BlockByName
from transforms.findings import Finding
from transforms.records import Container, ImageRef, UnitResult, WorkUnit

COUNTERS = "citymask.planning"
"""Namespace of the Beam counters of this step, which are named below."""

NEW = "new"
REPLACED = "replaced"
RETRIED = "retried"
REDONE = "redone"
"""Why an image is to do: it has no row, has changed since its row, has failed before, or its row is
not to be trusted or not wanted any more."""

SKIPPED = "skipped"
GATED = "gated"
QUARANTINED = "quarantined"
REMOVED = "removed"
DUPLICATES = "given_twice"
UNITS = "units"

DEFAULT_UNIT_SIZE = 128
UNITS_PER_BUCKET = 16
BYTES_PER_BUCKET = 64 << 20

DEFAULT_MAX_ATTEMPTS = 3

TODO = "todo"
SUPERSEDED = "superseded"
TAKEN = "taken"
BEYOND = "beyond"
"""Outputs of the steps, beside `SKIPPED`, `GATED` and `REMOVED`."""

REFS = "refs"
ROWS = "rows"
FAILED = "failed"
WRONG = "wrong"
ASIDE = "aside"


@dataclass(frozen=True)
class Gate:
    """What is set aside before it is segmented, see `transforms.gating`.

    Attributes:
        duplicates: photos that look like another one nearby.
        blurred: photos that are not sharp.
    """

    duplicates: bool = False
    blurred: bool = False

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons of the rows that count; none where there is no gate."""
        reasons = {columns.DUPLICATE: self.duplicates, columns.BLURRED: self.blurred}
        return tuple(reason for reason, counts in reasons.items() if counts)


@dataclass(frozen=True)
class Policy:
    """What is done again, and what is not done at all.

    Attributes:
        force: do images anew that are done.
        max_attempts: a version of an image that has failed so often is in quarantine.
        retry_failed: try what is in quarantine, too.
        gate: what is set aside; what was stays so while its version stands.
    """

    force: bool = False
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    retry_failed: bool = False
    gate: Gate = Gate()


EVERY_NIGHT = Policy()
"""What is new, changed or has failed seldom enough."""


@dataclass(frozen=True)
class Superseded:
    """A committed row that has to go.

    Attributes:
        image: the image it is of.
        run_id: the run that wrote it.
        file: the statistics file it is in.
        doubled: whether a newer row of the image stands already; else it goes when that is written.
    """

    image: str
    run_id: str
    file: str
    doubled: bool = False


@dataclass(frozen=True)
class SkippedImages:
    """So many images of one group are done already, or set aside."""

    group: str
    images: int


@dataclass(frozen=True)
class Plan:
    """What is to become of the images that share a name; every one of them is in one of the first
    four, or given twice.

    Attributes:
        todo: images to do; their `mask`, `attempts` and `replaces` are set.
        skipped: images that are done.
        quarantined: images whose version has failed too often.
        gated: images whose version was set aside.
        superseded: rows that the images to do replace, and doubled rows.
        unlisted: rows that stand and whose image was not listed.
        counts: images by `NEW`, `REPLACED`, `RETRIED` and `REDONE`, and `DUPLICATES`: references
            dropped because another INPUT names the same image.
    """

    todo: tuple[ImageRef, ...] = ()
    skipped: tuple[ImageRef, ...] = ()
    quarantined: tuple[ImageRef, ...] = ()
    gated: tuple[ImageRef, ...] = ()
    superseded: tuple[Superseded, ...] = ()
    unlisted: tuple[rows.CommittedRow, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)


def plan_images(
    refs: Sequence[ImageRef],
    committed: Sequence[rows.CommittedRow],
    failures: Iterable[rows.PastFailure],
    mask_folder: str,
    fold_case: bool = False,
    policy: Policy = EVERY_NIGHT,
    wrong: Iterable[Finding] = (),
    aside: Iterable[rows.PastAside] = (),
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
        policy: what is done again.
        wrong: findings of rows of the current model; an image with such a row is done anew.
        aside: images that were set aside, of any version.
    """
    if _is_plainly_done(refs, committed) and not (policy.force or wrong):
        return Plan(skipped=tuple(refs))
    standing, superseded = _standing(committed)
    untrusted = {(finding.image, finding.run_id) for finding in wrong}
    attempts: dict[tuple[str, str], int] = {}
    for failure in failures:
        key = (failure.image, failure.version)
        attempts[key] = max(attempts.get(key, 0), failure.attempts)

    by_source = {f"{ref.uri}@{ref.offset}": ref for ref in refs}
    counts: Counter[str] = Counter({DUPLICATES: len(refs) - len(by_source)})
    set_aside = {(a.image, a.version) for a in aside if a.reason in policy.gate.reasons}
    todo, skipped, quarantined, gated, listed = [], [], [], [], set()
    for ref in _named(by_source, standing, fold_case):
        ref = replace(ref, mask=names.mask_path(mask_folder, ref.image))
        row = standing.get(ref.image)
        listed.add(ref.image)
        tried = attempts.get((ref.image, ref.version), 0)
        unchanged = row is not None and row.version == ref.version
        again = policy.force or (row is not None and (row.image, row.run_id) in untrusted)
        if unchanged and not again:
            skipped.append(ref)
        elif (ref.image, ref.version) in set_aside and not policy.force:
            gated.append(ref)
        elif tried >= policy.max_attempts and not policy.retry_failed:
            quarantined.append(ref)
        else:
            todo.append(replace(ref, attempts=tried, replaces=row.run_id if row else ""))
            if row is not None:
                superseded.append(Superseded(row.image, row.run_id, row.file))
            counts[
                RETRIED if tried else NEW if row is None else REDONE if unchanged else REPLACED
            ] += 1
    unlisted = [row for image, row in standing.items() if image not in listed]
    return Plan(
        tuple(todo),
        tuple(skipped),
        tuple(quarantined),
        tuple(gated),
        tuple(superseded),
        tuple(unlisted),
        dict(counts),
    )


def _standing(
    committed: Sequence[rows.CommittedRow],
) -> tuple[dict[str, rows.CommittedRow], list[Superseded]]:
    """The row that stands of each image, the newest run's, and the others."""
    standing: dict[str, rows.CommittedRow] = {}
    doubled = []
    for row in sorted(committed, key=lambda row: (row.run_id, row.file), reverse=True):
        kept = standing.setdefault(row.image, row)
        if (row.run_id, row.file) != (kept.run_id, kept.file):
            doubled.append(Superseded(row.image, row.run_id, row.file, doubled=True))
    return standing, doubled


def _named(
    by_source: dict[str, ImageRef], standing: dict[str, rows.CommittedRow], fold_case: bool
) -> Iterator[ImageRef]:
    """The images with the names they have in the output folder, each name once."""

    def place(image: str) -> str:
        return image.casefold() if fold_case else image

    owners = {place(image): row for image, row in standing.items()}
    own_names = _own_names(by_source, standing)
    taken: set[str] = set()

    def is_free(image: str, ref: ImageRef) -> bool:
        owner = owners.get(place(image))
        return place(image) not in taken and (not owner or _same_image(owner, image, ref))

    for source, ref in sorted(
        by_source.items(), key=lambda item: (item[0] not in own_names, item[0])
    ):
        image, number = own_names.get(source, ref.image), 0
        while not is_free(image, ref):
            # Even a name with a hash may be taken: an image may be called so from the first.
            image = names.distinct_name(ref.image, source + "~" * number)
            number += 1
        taken.add(place(image))
        yield replace(ref, image=image)


def _own_names(
    by_source: dict[str, ImageRef], standing: dict[str, rows.CommittedRow]
) -> dict[str, str]:
    """The names of the images that certainly have a row, by source.

    A row says the URI of its image. Where members of a shard share that, only the hash in a name
    says which of them it belongs to.
    """
    refs_of_uri = Counter(ref.uri for ref in by_source.values())
    rows_of_uri = Counter(row.uri for row in standing.values())
    only_row = {row.uri: row.image for row in standing.values()}
    own_names = {}
    for source, ref in by_source.items():
        if ref.uri not in rows_of_uri:
            continue
        distinct = standing.get(names.distinct_name(ref.image, source))
        if distinct and distinct.uri == ref.uri:
            own_names[source] = distinct.image
        elif refs_of_uri[ref.uri] == rows_of_uri[ref.uri] == 1:
            own_names[source] = only_row[ref.uri]
    return own_names


def _is_plainly_done(refs: Sequence[ImageRef], committed: Sequence[rows.CommittedRow]) -> bool:
    """Whether one image and one row fit in all: true for nearly all images on most nights."""
    if len(refs) != 1 or len(committed) != 1:
        return False
    (ref,), (row,) = refs, committed
    return (ref.image, ref.uri, ref.version) == (row.image, row.uri, row.version)


def _same_image(row: rows.CommittedRow, image: str, ref: ImageRef) -> bool:
    """Whether a row is of this image: the same URI, or unchanged at another place."""
    return row.image == image and (row.uri == ref.uri or row.version == ref.version)


def is_gone(row: rows.CommittedRow, inputs: Sequence[str] = ()) -> bool:
    """Whether the image of a row that was not listed is there no more.

    Its file is gone; or it was a member of a shard, and that is gone or written anew without it.
    An image that is merely not below the INPUTs of this run is not gone. Remote files are not
    looked at one by one: gone is what lies below a folder that was listed and was not found there.

    Args:
        row: the row.
        inputs: the INPUTs of the run.
    """
    if storage.is_remote(row.uri):
        return any(row.uri.startswith(f"{storage.absolute(spec)}/") for spec in inputs)
    path = row.uri
    while storage.find(path).size < 0:
        path, found, _ = path.rpartition("#")
        if not found:
            return True
    return path != row.uri and storage.find(path).version != row.version


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

    PCollection[ImageRef] -> `todo` PCollection[ImageRef], `skipped` and `gated`
    PCollection[SkippedImages], `superseded` PCollection[Superseded] and `removed`
    PCollection[rows.CommittedRow]. An image is done when a row of this image, version and model is
    committed.

    Attributes:
        output: the output folder.
        model: the `model_id` whose rows count.
        mask_folder: folder of the masks below `output`.
        fold_case: whether `output` takes names that differ only in case for one.
        policy: what is done again.
        inputs: the INPUTs that were listed.
    """

    output: str
    model: str
    mask_folder: str = columns.MASKS
    fold_case: bool = False
    policy: Policy = EVERY_NIGHT
    inputs: tuple[str, ...] = ()

    def expand(self, refs: beam.PCollection[ImageRef]):
        start = refs.pipeline | "Output" >> beam.Create([self.output], reshuffle=False)
        committed = (
            start
            | "FindRows" >> beam.FlatMap(rows.file_blocks, columns.STATISTICS)
            | "SpreadRowFiles" >> beam.Reshuffle()
            | "ReadRows" >> beam.FlatMap(rows.committed_rows, self.model)
            | "BlockRows" >> beam.ParDo(BlockByName(shared_name))
        )
        failed = (
            start
            | "FindFailures" >> beam.FlatMap(rows.file_blocks, columns.FAILURES)
            | "ReadFailures" >> beam.FlatMap(rows.past_failures)
            | "BlockFailures" >> beam.ParDo(BlockByName(shared_name))
        )
        wrong = (
            start
            | "ReadFindings" >> beam.FlatMap(_wrong_rows, self.model)
            | "BlockFindings" >> beam.ParDo(BlockByName(shared_name))
        )
        known = {ROWS: committed, FAILED: failed, WRONG: wrong}
        if self.policy.gate.reasons:
            known[ASIDE] = (
                start
                | "FindGated" >> beam.FlatMap(rows.file_blocks, columns.GATED)
                | "ReadGated" >> beam.FlatMap(rows.past_asides)
                | "BlockGated" >> beam.ParDo(BlockByName(shared_name))
            )
        listed = refs | "BlockRefs" >> beam.ParDo(BlockByName(shared_name))
        outputs = (TODO, SKIPPED, GATED, SUPERSEDED, REMOVED)
        planned = (
            {REFS: listed, **known}
            | "JoinByName" >> beam.CoGroupByKey()
            | "Plan"
            >> beam.ParDo(
                _Plan(self.mask_folder, self.fold_case, self.policy, self.inputs)
            ).with_outputs(*outputs)
        )
        return {name: planned[name] for name in outputs}


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


class _Plan(beam.DoFn):
    def __init__(self, mask_folder: str, fold_case: bool, policy: Policy, inputs: Sequence[str]):
        self._inputs = inputs
        self._mask_folder = mask_folder
        self._fold_case = fold_case
        self._policy = policy

    def process(self, element):
        _, joined = element
        by_name: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
        for kind, blocks in joined.items():
            for block in blocks:
                for item in block.items:
                    by_name[shared_name(item)][kind].append(item)
        skipped: Counter[str] = Counter()
        gated: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        for of_name in by_name.values():
            plan = plan_images(
                of_name[REFS],
                of_name[ROWS],
                of_name[FAILED],
                self._mask_folder,
                self._fold_case,
                self._policy,
                of_name[WRONG],
                of_name[ASIDE],
            )
            skipped.update(ref.group for ref in plan.skipped)
            gated.update(ref.group for ref in plan.gated)
            counts.update(plan.counts)
            counts[QUARANTINED] += len(plan.quarantined)
            for name in (TODO, SUPERSEDED):
                for item in getattr(plan, name):
                    yield beam.pvalue.TaggedOutput(name, item)
            for row in plan.unlisted:
                if not is_gone(row, self._inputs):
                    continue
                counts[REMOVED] += 1
                yield beam.pvalue.TaggedOutput(REMOVED, row)
        for name, groups in ((SKIPPED, skipped), (GATED, gated)):
            counts[name] = groups.total()
            for group, images in groups.items():
                yield beam.pvalue.TaggedOutput(name, SkippedImages(group, images))
        for name, images in counts.items():
            Metrics.counter(COUNTERS, name).inc(images)
        undone = (SKIPPED, GATED, QUARANTINED, DUPLICATES)
        progress.report(skipped=sum(counts[name] for name in undone))


def _wrong_rows(output: str, model: str) -> Iterator[Finding]:
    for finding in findings.read_findings(output):
        if finding.kind in findings.OF_ROWS and finding.model == model:
            yield finding


def shared_name(
    item: ImageRef | rows.CommittedRow | rows.PastFailure | rows.PastAside | Finding,
) -> str:
    """What images must share to be joined: their names without what tells them apart.

    Case goes first: where it counts for nothing, a hash in capitals is one as well.
    """
    return names.base_name(item.image.casefold())


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
