"""The graph: the way of the data from INPUTs to masks, rows and a summary.

    inputs --list--> ImageRef --drop what is done--> ImageRef [--gate--> ImageRef]
       --group--> WorkUnit --reshuffle-->
       SegmentUnit [ read | decode | infer | upsample | encode | write | commit ] --> UnitResult
       --> summary

Pixels stay inside SegmentUnit; only references and counts flow between the steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import apache_beam as beam
from apache_beam.pvalue import AsList, PCollection

from models.packages import ModelPackage
from transforms import (
    CountCommitted,
    DateRange,
    DropDone,
    GateImages,
    ListImages,
    OnDates,
    RemoveSuperseded,
    SegmentArchive,
    SegmentOptions,
    SummarisePixels,
)
from transforms.output.rows import write_removed
from transforms.output.summarising import (
    counts_of_gated,
    counts_of_skipped,
    counts_of_undone,
    write_summary,
)
from transforms.planning.counters import GATED, REMOVED, SKIPPED
from transforms.planning.dropping import SUPERSEDED, TODO
from transforms.planning.gating import KEPT
from transforms.planning.policy import EVERY_NIGHT, Policy
from transforms.planning.units import DEFAULT_UNIT_SIZE


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
        policy: what is done again.
        dates: only images of these days are done; None: of all.
        max_images: most images that are looked at; None: all.
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
    hints: Mapping[str, str] = field(default_factory=dict)


def build_plan(pipeline: beam.Pipeline, job: Job) -> dict[str, PCollection]:
    """Add the steps that find out what is to do; the outputs of `DropDone`."""
    refs = (
        pipeline
        | "Inputs" >> beam.Create(job.inputs, reshuffle=False)
        | "List" >> ListImages(job.options.output)
    )
    plan = refs | "DropDone" >> DropDone(
        job.options.output,
        job.package.model_id,
        job.mask_folder,
        job.fold_case,
        job.policy,
        job.inputs,
    )
    if job.dates:
        plan[TODO] = plan[TODO] | "OnDates" >> OnDates(job.dates)
    return plan


def build_graph(pipeline: beam.Pipeline, job: Job) -> None:
    """Add the steps of `job` to a pipeline."""
    model, classes, output = job.package.model_id, job.package.classes, job.options.output
    merged, has_gate = job.options.merged, bool(job.policy.gate.reasons)

    plan = build_plan(pipeline, job)
    gated = []
    if has_gate:
        gate = plan[TODO] | "Gate" >> GateImages(model, job.options, job.policy.gate)
        plan[TODO], aside = gate[KEPT], (plan[GATED], gate[GATED]) | "Gated" >> beam.Flatten()
        gated = [aside | "CountGated" >> beam.Map(counts_of_gated)]
    results = plan[TODO] | "Segment" >> SegmentArchive(
        job.package, job.options, job.unit_size, job.max_images, job.hints
    )
    replaced = {"superseded": plan[SUPERSEDED], "results": results} | RemoveSuperseded(output)
    folder = pipeline | "Output" >> beam.Create([output], reshuffle=False)
    _ = folder | "WriteRemoved" >> beam.Map(write_removed, AsList(plan[REMOVED]))

    done = (
        folder
        | "AfterCommit" >> beam.WaitOn(results, replaced)
        | "CountCommitted" >> CountCommitted(model, classes, merged)
    )
    undone = results | "CountUndone" >> beam.FlatMap(counts_of_undone)
    skipped = plan[SKIPPED] | "CountSkipped" >> beam.Map(counts_of_skipped)
    (
        (done, undone, skipped, *gated)
        | "AllCounts" >> beam.Flatten()
        | "Summarise" >> SummarisePixels(classes, merged, has_gate)
        | "WriteSummary" >> beam.Map(write_summary, output)
    )
