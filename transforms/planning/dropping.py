"""Dropping: listed images that have results are found by a join with the rows of the output."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics

from transforms.flow import progress
from transforms.flow.blocks import BlockByName
from transforms.flow.records import ImageRef, PlannedImage, SkippedImages
from transforms.output import begun, columns, findings, parquet, rows
from transforms.output.findings import Finding
from transforms.planning.counters import COUNTERS, DUPLICATES, GATED, QUARANTINED, REMOVED, SKIPPED
from transforms.planning.deciding import Superseded, is_gone, plan_images, version_now
from transforms.planning.naming import shared_name
from transforms.planning.policy import EVERY_NIGHT, Policy

TODO = "todo"
SUPERSEDED = "superseded"
SETTLING = "settling"

REFS = "refs"
ROWS = "rows"
FAILED = "failed"
WRONG = "wrong"
ASIDE = "aside"
LEFT_OVER = "left over"


class Planned(NamedTuple):
    """Outputs of `DropDone`.

    Attributes:
        todo: PCollection[PlannedImage], images to segment.
        skipped: PCollection[SkippedImages], images that have results.
        gated: PCollection[SkippedImages], images that an earlier run set aside.
        superseded: PCollection[Superseded], rows to be removed.
        removed: PCollection[CommittedRow], rows whose image no longer exists.
        settling: PCollection[Settling], images on the records of processes that were killed.
    """

    todo: beam.PCollection[PlannedImage]
    skipped: beam.PCollection[SkippedImages]
    gated: beam.PCollection[SkippedImages]
    superseded: beam.PCollection[Superseded]
    removed: beam.PCollection[rows.CommittedRow]
    settling: beam.PCollection[begun.Settling]


@dataclass
class DropDone(beam.PTransform):
    """Compares the listed images with the rows of an output folder.

    PCollection[ImageRef] -> Planned. An image has results if a row of this image, version and model
    is committed.

    Attributes:
        output: the output folder.
        model: the `model_id` whose rows count.
        mask_folder: folder of the masks below `output`.
        fold_case: whether `output` takes names that differ only in case for one.
        policy: which images are segmented again.
        inputs: the INPUTs that were listed.
    """

    output: str
    model: str
    mask_folder: str = columns.MASKS
    fold_case: bool = False
    policy: Policy = EVERY_NIGHT
    inputs: tuple[str, ...] = ()

    def expand(self, refs: beam.PCollection[ImageRef]) -> Planned:
        start = refs.pipeline | "Output" >> beam.Create([self.output], reshuffle=False)
        committed = (
            start
            | "FindRows" >> beam.FlatMap(parquet.file_blocks, columns.STATISTICS)
            | "SpreadRowFiles" >> beam.Reshuffle()
            | "ReadRows" >> beam.FlatMap(rows.committed_rows, self.model)
            | "BlockRows" >> beam.ParDo(BlockByName(shared_name))
        )
        failed = (
            start
            | "FindFailures" >> beam.FlatMap(parquet.file_blocks, columns.FAILURES)
            | "ReadFailures" >> beam.FlatMap(rows.past_failures)
            | "BlockFailures" >> beam.ParDo(BlockByName(shared_name))
        )
        wrong = (
            start
            | "ReadFindings" >> beam.FlatMap(_wrong_rows, self.model)
            | "BlockFindings" >> beam.ParDo(BlockByName(shared_name))
        )
        left_over = (
            start
            | "ReadLeftOver" >> beam.FlatMap(begun.left_over, self.model)
            | "BlockLeftOver" >> beam.ParDo(BlockByName(shared_name))
        )
        known = {ROWS: committed, FAILED: failed, WRONG: wrong, LEFT_OVER: left_over}
        if self.policy.gate.reasons:
            known[ASIDE] = (
                start
                | "FindGated" >> beam.FlatMap(parquet.file_blocks, columns.GATED)
                | "ReadGated" >> beam.FlatMap(rows.past_asides)
                | "BlockGated" >> beam.ParDo(BlockByName(shared_name))
            )
        listed = refs | "BlockRefs" >> beam.ParDo(BlockByName(shared_name))
        planned = (
            {REFS: listed, **known}
            | "JoinByName" >> beam.CoGroupByKey()
            | "Plan"
            >> beam.ParDo(
                _Plan(self.mask_folder, self.fold_case, self.policy, self.inputs)
            ).with_outputs(*Planned._fields)
        )
        return Planned(*(planned[name] for name in Planned._fields))


class _Plan(beam.DoFn):
    def __init__(self, mask_folder: str, fold_case: bool, policy: Policy, inputs: Sequence[str]):
        self._inputs = inputs
        self._mask_folder = mask_folder
        self._fold_case = fold_case
        self._policy = policy

    def start_bundle(self) -> None:
        self._version_of = cache(version_now)

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
                of_name[LEFT_OVER],
            )
            skipped.update(ref.group for ref in plan.skipped)
            gated.update(ref.group for ref in plan.gated)
            counts.update(plan.counts)
            counts[QUARANTINED] += len(plan.quarantined)
            for name in (TODO, SUPERSEDED, SETTLING):
                for item in getattr(plan, name):
                    yield beam.pvalue.TaggedOutput(name, item)
            for row in plan.unlisted:
                if not is_gone(row, self._inputs, self._version_of):
                    continue
                counts[REMOVED] += 1
                yield beam.pvalue.TaggedOutput(REMOVED, row)
            for left in plan.missing:
                if is_gone(left.begun, self._inputs, self._version_of):
                    gone = begun.Settling(left.name, left.image, now=True)
                    yield beam.pvalue.TaggedOutput(SETTLING, gone)
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
