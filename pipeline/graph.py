"""The graph: the way of the data from INPUTs to masks, rows and a summary.

    inputs --list--> ImageRef --drop what is done--> PlannedImage [--gate--> PlannedImage]
       --group--> WorkUnit [--take--> WorkUnit] --reshuffle-->
       SegmentUnit [ read | decode | infer | upsample | encode | write | commit ] --> UnitResult
       --> summary

Pixels stay inside SegmentUnit; only references and counts flow between the steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import apache_beam as beam
from apache_beam.pvalue import AsList

from models.packages import ModelPackage
from transforms import (
    CountCommitted,
    DateImages,
    DateRange,
    DropDone,
    GateImages,
    GroupIntoUnits,
    ListImages,
    RemoveSuperseded,
    SegmentOptions,
    SegmentUnit,
    SettleLeftOver,
    SummarisePixels,
)
from transforms.inputs.listing import DEFAULT_MAX_BYTES
from transforms.output.begun import Records
from transforms.output.rows import write_removed
from transforms.output.summarising import (
    counts_of_gated,
    counts_of_skipped,
    counts_of_undone,
    write_summary,
)
from transforms.planning.dropping import Planned
from transforms.planning.policy import EVERY_NIGHT, Policy
from transforms.planning.units import DEFAULT_UNIT_SIZE, TakeImages
from transforms.segmenting.unit import records_of


@dataclass(frozen=True)
class Job:
    """What one run is to do.

    Attributes:
        inputs: directories, glob patterns, images, shards and manifests.
        package: the model.
        options: where and how images are segmented.
        mask_folder: folder of the masks below the output folder.
        fold_case: whether the output folder takes names that differ only in case for one.
        unit_size: most images in a work unit.
        policy: which images are segmented again.
        dates: only images of these days are segmented; None: of all days.
        max_images: most images to segment; None: all.
        max_bytes: larger photos fail without being read.
        hints: Beam's resource hints for the step that runs the network.
    """

    inputs: tuple[str, ...]
    package: ModelPackage
    options: SegmentOptions
    mask_folder: str
    fold_case: bool
    unit_size: int = DEFAULT_UNIT_SIZE
    policy: Policy = EVERY_NIGHT
    dates: DateRange | None = None
    max_images: int | None = None
    max_bytes: int = DEFAULT_MAX_BYTES
    hints: Mapping[str, str] = field(default_factory=dict)

    @property
    def model_id(self) -> str:
        """The model and the kind of its masks, as rows name it."""
        return self.options.masks.model_id(self.package)


def build_plan(pipeline: beam.Pipeline, job: Job, records: Records | None = None) -> Planned:
    """Add the steps that decide what is to do.

    Args:
        pipeline: the pipeline.
        job: what the run is to do.
        records: where photos are put on record while they are read; None for a dry run.
    """
    refs = (
        pipeline
        | "Inputs" >> beam.Create(job.inputs, reshuffle=False)
        | "List" >> ListImages(job.options.output, job.max_bytes)
    )
    plan = refs | "DropDone" >> DropDone(
        job.options.output,
        job.model_id,
        job.mask_folder,
        job.fold_case,
        job.policy,
        job.inputs,
    )
    if job.dates:
        todo = plan.todo | "OnDates" >> DateImages(job.dates, records)
        plan = plan._replace(todo=todo)
    return plan


def build_graph(pipeline: beam.Pipeline, job: Job) -> None:
    """Add the steps of `job` to a pipeline."""
    model, classes, output = job.model_id, job.package.classes, job.options.output
    merged, has_gate = job.options.merged, bool(job.policy.gate.reasons)
    owner = job.options.owner

    plan = build_plan(pipeline, job, records_of(job.package, job.options))
    todo, gated, ended = plan.todo, [], {"settling": plan.settling}
    if has_gate:
        options = job.options
        gate = plan.todo | "Gate" >> GateImages(
            model, job.policy.gate, output, options.run_id, options.max_pixels, owner
        )
        todo, aside = gate.kept, (plan.gated, gate.gated) | "Gated" >> beam.Flatten()
        ended["aside"] = gate.aside
        gated = [aside | "CountGated" >> beam.Map(counts_of_gated)]

    units, beyond = todo | "GroupIntoUnits" >> GroupIntoUnits(model, job.unit_size), []
    if job.max_images is not None:
        taken = units | "TakeImages" >> TakeImages(model, job.max_images)
        units, beyond = taken.units, [taken.beyond]
    segment = beam.ParDo(SegmentUnit(job.package, job.options))
    segmented = (
        units
        | "SpreadUnits" >> beam.Reshuffle()
        | "SegmentUnit" >> segment.with_resource_hints(**job.hints)
    )
    results = (segmented, *beyond) | "Results" >> beam.Flatten()

    replaced = {"superseded": plan.superseded, "results": results} | RemoveSuperseded(output, owner)
    _ = {**ended, "results": results} | SettleLeftOver(output, owner)
    folder = pipeline | "Output" >> beam.Create([output], reshuffle=False)
    _ = folder | "WriteRemoved" >> beam.Map(write_removed, AsList(plan.removed), owner)

    done = (
        folder
        | "AfterCommit" >> beam.WaitOn(results, replaced)
        | "CountCommitted" >> CountCommitted(model, classes, merged)
    )
    undone = results | "CountUndone" >> beam.FlatMap(counts_of_undone)
    skipped = plan.skipped | "CountSkipped" >> beam.Map(counts_of_skipped)
    (
        (done, undone, skipped, *gated)
        | "AllCounts" >> beam.Flatten()
        | "Summarise" >> SummarisePixels(classes, merged, has_gate)
        | "WriteSummary" >> beam.Map(write_summary, output, owner)
    )
