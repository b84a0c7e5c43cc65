"""`citymask run`: from INPUTs to masks, rows and a summary."""

import sys
from typing import Any

import click

from pipeline import console
from pipeline.commands.common import (
    BeamCommand,
    Days,
    Refused,
    Share,
    day_options,
    engine_options,
)
from pipeline.errors import EXIT_UNEXPECTED
from pipeline.runners import dataflow_options
from pipeline.runs import record as run_record
from pipeline.runs import request as runs
from pipeline.runs.performing import performed, report_on, show_plan, submit, verdict
from transforms import DateRange
from transforms.flow.records import Projection
from transforms.inputs.dates import ARRIVAL, CAPTURE
from transforms.output import columns
from transforms.photos.decoding import DEFAULT_MAX_PIXELS
from transforms.planning.policy import DEFAULT_MAX_ATTEMPTS
from transforms.planning.units import DEFAULT_UNIT_SIZE


@click.command(cls=BeamCommand)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--output", "-o", required=True, metavar="OUT", help="Folder for all results.")
@click.option(
    "--model", default="default", show_default=True, metavar="NAME_OR_PATH",
    help="A shipped model or the folder of a model package.",
)  # fmt: skip
@click.option("--overlay", is_flag=True, help="Write a blended JPEG beside each mask.")
@click.option(
    "--confidence", is_flag=True,
    help="Write an 8-bit confidence image beside each mask, and mean confidences into the rows.",
)  # fmt: skip
@click.option(
    "--max-failures", type=Share(), metavar="SHARE",
    help="Exit with 3 if more than this share of the images failed, e.g. 0.05 or 5%. "
    "Default: only if all failed.",
)  # fmt: skip
@click.option(
    "--max-pixels", type=click.IntRange(1), default=DEFAULT_MAX_PIXELS, show_default=True,
    help="Refuse photos that claim more pixels.",
)  # fmt: skip
@click.option(
    "--projection", type=click.Choice([choice.value for choice in Projection]),
    default=Projection.AUTO.value, show_default=True,
    callback=lambda _, __, value: Projection(value),
    help="What photos are: flat, or panoramas of 2:1; auto: what metadata and files say.",
)  # fmt: skip
@engine_options
@click.option(
    "--batch-size", type=click.IntRange(1),
    help="Photos per call of the network. Default: 1 on a CPU, on a GPU by its memory.",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, metavar="N",
    help="Segment in N processes, which share the cores of this machine.",
)  # fmt: skip
@click.option(
    "--unit-size", type=click.IntRange(1), default=DEFAULT_UNIT_SIZE, show_default=True,
    help="Most images per work unit: the grain of commit and resume.",
)  # fmt: skip
@click.option(
    "--windows", type=click.FloatRange(0, 1, min_open=True), metavar="SCALE",
    help="Segment in overlapping windows at SCALE times each photo's own resolution, in place of "
    "stretching it to the network's input: for aerial photos.",
)  # fmt: skip
@click.option(
    "--label-ids", is_flag=True,
    help="Write masks with the label ids of the classes' data set in place of 0, 1, 2, ...",
)  # fmt: skip
@click.option(
    "--merge", metavar="FILE.csv",
    help="Count merged classes as well; the columns class,merged say what goes into what.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Do images anew that are done already.")
@click.option(
    "--max-attempts", type=click.IntRange(1), default=DEFAULT_MAX_ATTEMPTS, show_default=True,
    help="Leave an image in quarantine once its version has failed so often.",
)  # fmt: skip
@click.option("--retry-failed", is_flag=True, help="Try what is in quarantine, too.")
@click.option(
    "--skip-duplicates", is_flag=True,
    help="Set photos aside that look like another one nearby; see gated/.",
)  # fmt: skip
@click.option("--skip-blurred", is_flag=True, help="Set photos aside that are blurred.")
@click.option(
    "--max-images", type=click.IntRange(1), metavar="N",
    help="Take at most N images; leave the others for the next run.",
)  # fmt: skip
@click.option(
    "--max-minutes", type=click.FloatRange(0, min_open=True), metavar="M",
    help="Begin no work after M minutes; leave the rest for the next run.",
)  # fmt: skip
@day_options
@click.option(
    "--by", type=click.Choice([ARRIVAL, CAPTURE]), default=ARRIVAL, show_default=True,
    help="Days on which files arrived (UTC), or on which photos were taken.",
)  # fmt: skip
@click.option(
    "--gpu", metavar="TYPE[:COUNT]",
    help="On Dataflow: GPUs for the machines that run the network, such as nvidia-tesla-t4.",
)  # fmt: skip
@click.option("--require-gpu", is_flag=True, help="Fail where a worker sees no GPU.")
@click.option(
    "--no-wait", is_flag=True,
    help="On Dataflow: submit the job, print its id and its page, and leave it to itself.",
)  # fmt: skip
@click.option("--report", is_flag=True, help="Write a page about all results to OUT/report/.")
@click.option(
    "--dry-run", is_flag=True,
    help="Say what would be done and about how long it would take; write nothing.",
)  # fmt: skip
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
@click.option("--verbose", "-v", is_flag=True, help="Print what libraries say, too.")
@click.pass_obj
def run(
    beam_arguments: dict[str, Any],
    inputs: tuple[str, ...],
    max_failures: float | None,
    days: Days | None,
    by: str,
    no_wait: bool,
    report: bool,
    dry_run: bool,
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> None:
    """Segment the images of INPUT... into masks and statistics under OUT.

    INPUT is a directory (searched recursively), a glob pattern, an image, a .tar or .tfrecord
    shard, or a .csv, .parquet or .txt manifest. Images that are done already are skipped. All
    options of Apache Beam's runners are accepted as well (--runner, --direct_num_workers, ...).
    """
    level = console.level_of(quiet, verbose)
    console.set_up_logging(level)
    dates = DateRange(*days, by) if days else None
    request = runs.RunRequest(inputs=inputs, dates=dates, **settings)
    if dry_run:
        show_plan(request, level)
        return
    if no_wait or dataflow_options.is_unattended(beam_arguments):
        if report:
            raise Refused(
                "--report: nobody waits for the job; `citymask report OUT` writes it afterwards"
            )
        lines = submit(request, beam_arguments, max_failures)
        if not quiet:
            click.echo("\n".join(lines))
        return
    with performed(request, beam_arguments, level) as (record, signal):
        run_record.write_record(record)
        unwritten = report_on(record, signal) if report else ""
    if not quiet:
        console.print_classes(record)
        console.print_closing(record)
        if report and not (unwritten or signal):
            click.echo(f"Report in {record['options']['output']}/{columns.REPORT}")
    code, reason = verdict(record, signal, max_failures)
    click.echo(reason, err=True, nl=bool(reason))
    click.echo(unwritten, err=True, nl=bool(unwritten))
    sys.exit(code or (EXIT_UNEXPECTED if unwritten else 0))
