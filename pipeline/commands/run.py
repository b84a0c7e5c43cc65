"""`citymask run`: from INPUTs to masks, rows and a summary."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from pipeline import console
from pipeline import run as runs
from pipeline.beam_options import pipeline_options
from pipeline.commands.common import (
    EXIT_SIGNAL,
    EXIT_TOO_MANY_FAILURES,
    BeamCommand,
    Share,
    foreseen_errors,
)
from pipeline.signals import StopOnSignal
from transforms import columns
from transforms.photos import DEFAULT_MAX_PIXELS
from transforms.planning import DEFAULT_UNIT_SIZE
from transforms.segmenting import DEFAULT_BATCH_SIZE


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
    "--batch-size", type=click.IntRange(1), default=DEFAULT_BATCH_SIZE, show_default=True,
    help="Photos per call of the network.",
)  # fmt: skip
@click.option(
    "--unit-size", type=click.IntRange(1), default=DEFAULT_UNIT_SIZE, show_default=True,
    help="Most images per work unit: the grain of commit and resume.",
)  # fmt: skip
@click.option(
    "--label-ids", is_flag=True,
    help="Write masks with the label ids of the classes' data set in place of 0, 1, 2, ...",
)  # fmt: skip
@click.option(
    "--merge", metavar="FILE.csv",
    help="Count merged classes as well; the columns class,merged say what goes into what.",
)  # fmt: skip
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
@click.option("--verbose", "-v", is_flag=True, help="Print what libraries say, too.")
@click.pass_obj
def run(
    beam_arguments: dict[str, Any],
    inputs: tuple[str, ...],
    max_failures: float | None,
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> None:
    """Segment the images of INPUT... into masks and statistics under OUT.

    INPUT is a directory (searched recursively), a glob pattern, an image, a .tar or .tfrecord
    shard, or a .csv, .parquet or .txt manifest. Images that are done already are skipped. All
    options of Apache Beam's runners are accepted as well (--runner, --direct_num_workers, ...).
    """
    level = console.VERBOSE if verbose else console.QUIET if quiet else console.NORMAL
    console.set_up_logging(level)
    started, start = runs.utc_now(), time.monotonic()
    run_id = runs.new_run_id(started)
    request = runs.RunRequest(inputs=inputs, **settings)
    with foreseen_errors(), runs.prepared(request, run_id) as (job, notes):
        for note in notes:
            console.logger.info("%s", note)
        with StopOnSignal(job.options.output) as stop, console.ProgressMonitor(level):
            result = runs.execute(job, pipeline_options(beam_arguments))
        seconds = time.monotonic() - start
        record = runs.make_record(job, beam_arguments, result, started, seconds)
        runs.write_record(record, job.options.output)
    images, output = record["images"], job.options.output
    if not quiet:
        summary = json.loads(Path(output, columns.SUMMARY_JSON).read_text("utf-8"))
        console.print_closing_table(summary, record)
        click.echo(f"Results in {output}")
        if images["failed"]:
            failures = os.path.join(output, columns.FAILURES)
            click.echo(f"What failed, and why, is in {failures}")
    if stop.received:
        left = f"{images['left']} images are left for the next run"
        click.echo(f"Interrupted ({stop.received.name}): {left}", err=True)
        sys.exit(EXIT_SIGNAL + stop.received)
    share = images["failed"] / (images["done"] + images["failed"] + images["skipped"] or 1)
    if share > max_failures if max_failures is not None else share == 1:
        click.echo(f"Error: {images['failed']} images failed, {share:.1%} of all", err=True)
        sys.exit(EXIT_TOO_MANY_FAILURES)
