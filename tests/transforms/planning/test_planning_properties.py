"""Planning: whatever happens to an archive and to its runs, no image and no row is ever lost.

Hypothesis makes up histories: images come, change, fail and go, runs are killed, interrupted and
damaged. Rows are written, read, dropped and merged by the program's own functions; only the
segmenting itself, and so the masks, are a model.
"""

import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from models.classes import ClassTable
from models.engines import Precision
from transforms.flow.records import (
    UNKNOWN_CAPTURE,
    Failure,
    ImageRef,
    PlannedImage,
    Segmented,
    UnitResult,
    WorkUnit,
)
from transforms.output import columns, compacting, names, parquet, rows
from transforms.output.findings import MASK_DIFFERS, MASK_ORPHAN, Finding
from transforms.output.replacing import replaced_rows
from transforms.output.rows import CommittedRow
from transforms.planning.counters import DUPLICATES
from transforms.planning.deciding import Plan, plan_images
from transforms.planning.naming import shared_name
from transforms.planning.policy import EVERY_NIGHT, Policy
from transforms.planning.units import bucket_of, make_units

# The same histories every time, and few enough for every commit. For a longer look:
# HYPOTHESIS_PROFILE=planning-long pytest tests/transforms/test_planning_properties.py
settings.register_profile(
    "planning",
    max_examples=100,
    stateful_step_count=25,
    derandomize=True,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    phases=[phase for phase in Phase if phase is not Phase.explain],
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    "planning-long",
    settings.get_profile("planning"),
    max_examples=5000,
    stateful_step_count=40,
    derandomize=False,
)

CLASSES = ClassTable.of([("Sky", (1, 2, 3))])
MODEL = "tiny@0123456789ab"

ROOTS = ("a", "b")
NAMES = (
    "p/a.jpg",
    "p/A.jpg",
    names.distinct_name("p/a.jpg", "/b/p/a.jpg@0"),
    "p/a~0123abcd.jpg",
    "p/a~0123ABCD.jpg",
    "p/b.jpg",
)
"""Most get in each other's way: they are alike but for their case, or have a hash already."""

VERSIONS = ("-1", "-2", "-3")
"""Files of one name and version in two roots are copies; of different names they never are."""

SHARD = "s"
MEMBERS = {"": (), "7-1": (512,), "7-2": (512, 2048), "7-3": (1024, 2048), "7-4": (512, 3072)}
"""Offsets of the members of a shard in its versions; all have one name, as tar allows."""


class Source(NamedTuple):
    """Where an image is, whatever path its root has at the time."""

    root: str
    name: str
    offset: int = 0


class Content(NamedTuple):
    """What a mask is of. Files of equal name and version in two roots are copies."""

    name: str
    offset: int
    version: str


class Disturbance(NamedTuple):
    """How a run ends before its end.

    Attributes:
        units: how many of them are committed.
        masks: how many masks of the next unit are written.
        failures: whether that unit's failures are.
        files: of how many files the superseded rows are dropped; None for a run that is asked to
            stop: it leaves the units that are not begun and ends in order.
    """

    units: int
    masks: int = 0
    failures: bool = False
    files: int | None = 0


MANY = 1_000
UNDISTURBED = Disturbance(MANY, files=None)


@dataclass
class World:
    """An archive, and the output folder that its runs leave.

    Attributes:
        output: path of the output folder.
        fold_case: whether it takes names that differ only in case for one.
        versions: of the images that are there.
        failing: images that cannot be done at present.
        moves: how often each root was moved.
        masks: what each mask is of and when it was written, by path.
        made: what each row is of, by image and run.
        spoiled: masks that may not fit their rows: a run was killed, or they were damaged.
        findings: what the last verification found.
    """

    output: str
    fold_case: bool
    versions: dict[Source, str] = field(default_factory=dict)
    failing: set[Source] = field(default_factory=set)
    moves: Counter[str] = field(default_factory=Counter)
    masks: dict[str, tuple[Content | None, int]] = field(default_factory=dict)
    made: dict[tuple[str, str], Content] = field(default_factory=dict)
    spoiled: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    clock: int = 0

    def listing(self, roots: Iterable[str]) -> list[ImageRef]:
        return [self.ref(source) for source in sorted(self.versions) if source.root in roots]

    def ref(self, source: Source) -> ImageRef:
        root, name, offset = source
        place = f"/{root}" + "x" * self.moves[root]
        path = uri = f"{place}/{name}"
        container = ""
        if root == SHARD:
            path, uri, container = f"{place}.tar", f"{place}.tar#{name}", "tar"
        version = self.versions[source]
        return ImageRef(name, uri, path, version, ".", container=container, offset=offset)

    def committed(self) -> list[CommittedRow]:
        files = parquet.files_in(self.output, columns.STATISTICS)
        return list(rows.committed_rows(files, MODEL))

    def past_failures(self) -> list[rows.PastFailure]:
        files = parquet.files_in(self.output, columns.FAILURES)
        return list(rows.past_failures(files))

    def attempts(self, image: str, version: str) -> int:
        found = (
            f.attempts for f in self.past_failures() if (f.image, f.version) == (image, version)
        )
        return max(found, default=0)

    def mask_key(self, path: str) -> str:
        return path.casefold() if self.fold_case else path

    def write_mask(self, path: str, content: Content | None) -> None:
        self.clock += 1
        self.masks[self.mask_key(path)] = (content, self.clock)
        self.spoiled.add(self.mask_key(path))

    def plan(self, refs: Sequence[ImageRef], policy: Policy, choose=None) -> list[Plan]:
        """The plan of each group of images that share a name; `choose` shuffles what is read."""
        sides = [list(refs), self.committed(), self.past_failures(), list(self.findings)]
        groups = defaultdict(lambda: ([], [], [], []))
        for number, side in enumerate(sides):
            if choose:
                choose.shuffle(side)
            for item in side:
                groups[shared_name(item)][number].append(item)
        return [
            plan_images(refs, committed, failures, "masks", self.fold_case, policy, wrong)
            for refs, committed, failures, wrong in groups.values()
        ]

    def commit(self, unit: WorkUnit, run_id: str, masks: int | None = None, fails=True) -> None:
        """Segment a unit; with `masks`, be killed after so many of them."""
        done, failed = [], []
        for planned in unit.images:
            if self.source_of(planned.ref) in self.failing:
                failed.append(Failure(planned, "decode", "DecodeError", "empty"))
            else:
                done.append(Segmented(planned, 2, 1, UNKNOWN_CAPTURE, (2,), Precision.F32))
        for item in done[:masks]:
            self.write_mask(item.planned.mask, content_of(item.planned.ref))
        if masks is not None:
            done = []
        result = UnitResult(unit.unit_id, tuple(done), tuple(failed) if fails else ())
        self.assert_nothing_overwritten(result)
        rows.commit(self.output, result, CLASSES, MODEL, run_id)
        for item in done:
            ref = item.planned.ref
            self.made[ref.image, run_id] = content_of(ref)
            self.spoiled.discard(self.mask_key(item.planned.mask))

    def assert_nothing_overwritten(self, result: UnitResult) -> None:
        """A unit's file takes the place of the same rows only."""
        file = os.path.join(self.output, columns.STATISTICS, f"{result.unit_id}.parquet")
        if result.segmented and os.path.exists(file):
            refs = [item.planned.ref for item in result.segmented]
            new = {(ref.image, ref.version) for ref in refs}
            assert {(row.image, row.version) for row in rows.committed_rows([file], MODEL)} <= new

    def source_of(self, ref: ImageRef) -> Source:
        return next(s for s in self.versions if self.ref(s).path == ref.path and s[2] == ref.offset)

    def verify(self) -> None:
        """Find the masks that differ from their rows, and those without a row."""
        committed = self.committed()
        of_rows = {self.mask_key(row.mask) for row in committed}
        self.findings = [
            Finding(MASK_DIFFERS, row.mask, "", row.image, MODEL, row.run_id, "")
            for row in committed
            if self.masks[self.mask_key(row.mask)][0] != self.made[row.image, row.run_id]
        ] + [
            Finding(MASK_ORPHAN, path, str(written), "", "", "", "")
            for path, (_, written) in self.masks.items()
            if path not in of_rows
        ]

    def remove_orphans(self) -> None:
        """As `findings.repair_files` does."""
        for finding in self.findings:
            _, written = self.masks.get(self.mask_key(finding.path), (None, -1))
            if finding.kind == MASK_ORPHAN and finding.version == str(written):
                del self.masks[self.mask_key(finding.path)]


def content_of(ref: ImageRef) -> Content:
    name = ref.uri.split("#")[-1] if ref.offset else ref.uri.split("/", 2)[2]
    return Content(name, ref.offset, ref.version)


def flat(plans: Iterable[Plan], name: str) -> list:
    return [item for plan in plans for item in getattr(plan, name)]


def refs_to_do(plans: Iterable[Plan]) -> list[ImageRef]:
    return [planned.ref for planned in flat(plans, "todo")]


def units_of(todo: Sequence[PlannedImage], unit_size: int) -> list[WorkUnit]:
    """As `GroupIntoUnits` makes them."""
    buckets = defaultdict(list)
    for planned in todo:
        buckets[bucket_of(planned.ref, len(todo), unit_size)].append(planned)
    return [unit for images in buckets.values() for unit in make_units(images, unit_size, MODEL)]


def perform(
    world: World,
    roots: Iterable[str],
    policy: Policy,
    unit_size: int,
    run_id: str,
    choose,
    end: Disturbance = UNDISTURBED,
) -> None:
    """A run as the graph makes it; all that must be true of it is asserted on the way."""
    world.remove_orphans()
    listed = world.listing(roots)
    given = listed + choose.sample(listed, min(1, len(listed)))
    before = world.committed()
    plans = world.plan(given, policy)
    assert_all_planned(world, given, plans, before, policy)

    units = units_of(flat(plans, "todo"), unit_size)
    todo = flat(world.plan(given, policy, choose), "todo")
    again = units_of(choose.sample(todo, len(todo)), unit_size)
    assert {unit.unit_id: unit.images for unit in units} == {u.unit_id: u.images for u in again}
    choose.shuffle(units)
    for unit in units[: end.units]:
        world.commit(unit, run_id)
    if end.files is not None and end.units < len(units):
        world.commit(units[end.units], run_id, end.masks, end.failures)
        return
    results = {
        planned.ref.image: planned.ref for unit in units[: end.units] for planned in unit.images
    }
    done = {name for name, ref in results.items() if world.source_of(ref) not in world.failing}
    drop_superseded(world, flat(plans, "superseded"), done, end.files)
    if end.files is None:
        assert_standing(world, plans, before, done, run_id)
        if end is UNDISTURBED:
            assert_settled(world, listed, plans)


def drop_superseded(world: World, superseded, done: set[str], files: int | None) -> None:
    """As `RemoveSuperseded` does; with `files`, be killed after so many."""
    by_image, by_file = defaultdict(list), defaultdict(list)
    for row in superseded:
        by_image[row.image].append(row)
    for image, old in by_image.items():
        for file, key in replaced_rows((image, {"old": old, "new": [True] * (image in done)})):
            by_file[file].append(key)
    for file in sorted(by_file)[:files]:
        rows.drop_rows(world.output, file, by_file[file])


def assert_all_planned(world, given, plans, before, policy) -> None:
    """Every image is in one state, and in the right one, under a name of its own."""
    todo, skipped, quarantined = (flat(plans, of) for of in ("todo", "skipped", "quarantined"))
    planned = refs_to_do(plans) + skipped + quarantined
    twice = sum(plan.counts.get(DUPLICATES, 0) for plan in plans)
    assert len(planned) + twice == len(given)
    assert {(ref.uri, ref.offset) for ref in planned} == {(ref.uri, ref.offset) for ref in given}
    places = Counter(world.mask_key(names.mask_path("masks", ref.image)) for ref in planned)
    assert max(places.values(), default=1) == 1, "two images share a mask"

    standing = {}
    for row in sorted(before, key=lambda row: (row.run_id, row.file)):
        standing[row.image] = row
    wrong = {(f.image, f.run_id) for f in world.findings if f.image}
    for ref in skipped:
        row = standing[ref.image]
        assert world.made[row.image, row.run_id] == content_of(ref)
        assert (row.image, row.run_id) not in wrong and not policy.force
    for ref in quarantined:
        assert world.attempts(ref.image, ref.version) >= policy.max_attempts
        assert not policy.retry_failed
    for image in todo:
        ref = image.ref
        row = standing.get(ref.image)
        assert image.attempts == world.attempts(ref.image, ref.version)
        assert image.attempts < policy.max_attempts or policy.retry_failed
        assert image.replaces == (row.run_id if row else "")
        assert image.mask == names.mask_path("masks", ref.image)
    if not policy.force:
        right = {
            (row.uri, world.made[row.image, row.run_id])
            for row in standing.values()
            if (row.image, row.run_id) not in wrong
        }
        assert not right & {(i.ref.uri, content_of(i.ref)) for i in todo}, "done is not left alone"


def assert_standing(world, plans, before, done: set[str], run_id: str) -> None:
    """After a run that ended in order: one row of each image, and none is lost."""
    after = world.committed()
    by_image = {row.image: row for row in after}
    assert len(by_image) == len(after), "two rows of one image"
    assert {row.image for row in before} | done == by_image.keys(), "a row is lost"
    newest = {row.image: row.run_id for row in sorted(before, key=lambda row: row.run_id)}
    for planned in flat(plans, "todo"):
        ref = planned.ref
        row = by_image.get(ref.image)
        if ref.image in done:
            assert (row.version, row.run_id, row.mask) == (ref.version, run_id, planned.mask)
        else:
            assert row is None or row.run_id == planned.replaces
    for image in by_image.keys() - done:
        assert by_image[image].run_id == newest[image]
    for row in after:
        key = world.mask_key(row.mask)
        if key not in world.spoiled:
            assert world.masks[key][0] == world.made[row.image, row.run_id], "a mask of another"


def assert_settled(world, listed, plans) -> None:
    """After a run that nothing disturbed: what it did stays done, as if it were the first run."""
    again = world.plan(listed, EVERY_NIGHT)
    to_try_again = {ref.image for ref in refs_to_do(again)}
    assert {row.image for row in flat(again, "superseded")} <= to_try_again
    assert not any(row.doubled for row in flat(again, "superseded"))
    assert names_by_source(plans) == names_by_source(again)
    wrong = {(f.image, f.run_id) for f in world.findings}
    skipped = {row.image for row in world.committed() if (row.image, row.run_id) not in wrong}
    for ref in refs_to_do(again) + flat(again, "quarantined"):
        assert world.source_of(ref) in world.failing or ref.image not in skipped
    if not (world.failing or flat(plans, "quarantined")):
        fresh = plan_all_anew(world, listed)
        assert Counter((shared_name(ref), ref.version) for ref in flat(again, "skipped")) == fresh


def names_by_source(plans: Sequence[Plan]) -> dict[tuple[str, int], str]:
    planned = refs_to_do(plans) + flat(plans, "skipped") + flat(plans, "quarantined")
    return {(ref.uri, ref.offset): ref.image for ref in planned}


def plan_all_anew(world: World, listed: Sequence[ImageRef]) -> Counter[tuple[str, str]]:
    """Shared name and version of all rows that a first run would write."""
    groups = defaultdict(list)
    for ref in listed:
        groups[shared_name(ref)].append(ref)
    plans = [plan_images(refs, (), (), "masks", world.fold_case) for refs in groups.values()]
    return Counter((shared_name(ref), ref.version) for ref in refs_to_do(plans))


indices = st.integers(0, 7)
files = st.tuples(st.sampled_from(ROOTS), st.sampled_from(NAMES)).map(lambda pair: Source(*pair))
some_versions = st.dictionaries(files, st.sampled_from(VERSIONS), min_size=2, max_size=6)
ends = st.one_of(
    st.builds(Disturbance, st.integers(0, 3), st.just(0), st.just(False), files=st.none()),
    st.builds(Disturbance, st.integers(0, 3), st.integers(0, 2), st.booleans(), st.just(0)),
    st.builds(Disturbance, st.just(MANY), st.just(0), st.just(False), st.integers(0, 2)),
)
how_to_run = {
    "roots": st.sampled_from(["abs", "abs", "abs", "ab", "as", "a", "b", "s"]),
    "policy": st.sampled_from(
        [EVERY_NIGHT] * 4
        + [Policy(force=True), Policy(max_attempts=1), Policy(max_attempts=2, retry_failed=True)]
    ),
    "unit_size": st.integers(1, 4),
    "choose": st.randoms(use_true_random=False),
}


class Histories(RuleBasedStateMachine):
    """What may happen, in any order. There are few rules, so that each history has many runs."""

    def __init__(self):
        super().__init__()
        self.output = tempfile.mkdtemp()
        self.runs = 0

    def teardown(self):
        shutil.rmtree(self.output)

    @initialize(fold_case=st.booleans(), versions=some_versions)
    def begin(self, fold_case, versions):
        self.world = World(self.output, fold_case)
        self.write_images(versions)

    @rule(versions=some_versions)
    def write_images(self, versions):
        for source, version in versions.items():
            self.world.versions[source] = f"{NAMES.index(source.name)}{version}"

    @rule(shard=st.sampled_from(sorted(MEMBERS)), moved=st.sampled_from(["", "", *ROOTS, SHARD]))
    def write_shard_or_move(self, shard, moved):
        world = self.world
        if moved:
            world.moves[moved] += 1
            return
        world.versions = {s: v for s, v in world.versions.items() if s.root != SHARD}
        world.versions.update({Source(SHARD, NAMES[0], off): shard for off in MEMBERS[shard]})

    @rule(index=indices, what=st.sampled_from(["removed", "failing", "failing", "none failing"]))
    def remove_or_fail(self, index, what):
        present = [source for source in sorted(self.world.versions) if source.root != SHARD]
        if what == "removed" and present:
            del self.world.versions[present[index % len(present)]]
        elif what == "failing" and self.world.versions:
            present = sorted(self.world.versions)
            self.world.failing ^= set(present[index % len(present) :][:3])
        else:
            self.world.failing.clear()

    @rule(index=indices, lost=st.booleans(), verified=st.booleans())
    def damage(self, index, lost, verified):
        """A mask is damaged, or a file of rows lost, and perhaps verification looks for it."""
        committed = self.world.committed()
        if committed and lost:
            os.unlink(committed[index % len(committed)].file)
        elif committed:
            self.world.write_mask(committed[index % len(committed)].mask, None)
        if verified:
            self.world.verify()

    @rule()
    def compact(self):
        compacting.compact(self.output, compacting.Limits(listing_seconds=0))

    @rule(**how_to_run)
    def run(self, **how):
        self.runs += 1
        perform(self.world, run_id=f"{self.runs:04}", **how)

    @rule(end=ends, **how_to_run)
    def run_that_is_killed_or_asked_to_stop(self, end, **how):
        self.runs += 1
        perform(self.world, run_id=f"{self.runs:04}", end=end, **how)


TestHistories = Histories.TestCase
TestHistories.settings = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "planning"))


@settings(settings.get_profile("planning"), max_examples=300)
@given(st.text("a0fF~./"), st.text(), st.text())
def test_names_that_are_told_apart_are_planned_together(path, source, another):
    image = names.image_name(path)
    distinct = names.distinct_name(image, source)
    group = shared_name(named(image))
    assert group == shared_name(named(distinct)) == shared_name(named(image.swapcase()))
    assert group == shared_name(named(names.distinct_name(distinct, another)))


def named(image: str) -> rows.PastFailure:
    return rows.PastFailure(image, "1-1", 1)
