"""`citymask run`: from INPUTs to masks, rows and a summary."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from signal import Signals
from typing import Any

import click

from pipeline import console, dataflow, dataflow_jobs, portable_jobs, run_record
from pipeline import run as runs
from pipeline.beam_options import pipeline_options, with_workers
from pipeline.commands.common import (
    BeamCommand,
    Days,
    Refused,
    Share,
    day_options,
    engine_options,
    foreseen_errors,
)
from pipeline.errors import EXIT_SIGNAL, EXIT_THRESHOLD, EXIT_UNEXPECTED, ConfigurationError
from pipeline.graph import Job, build_plan
from pipeline.signals import StopOnSignal
from transforms import DateRange, columns, model_files, stopping
from transforms.dates import ARRIVAL, CAPTURE
from transforms.photos import DEFAULT_MAX_PIXELS
from transforms.planning import DEFAULT_MAX_ATTEMPTS, DEFAULT_UNIT_SIZE
from transforms.projections import Projection


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
    if no_wait or dataflow.is_unattended(beam_arguments):
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


@contextmanager
def performed(
    request: runs.RunRequest, beam_arguments: dict[str, Any], level: int
) -> Iterator[tuple[dict[str, Any], Signals | None]]:
    """Do what was asked for.

    As a context it gives the run record, still to be written, and the signal that ended the work if
    one did. While it is open, the output folder stays locked.
    """
    started, start = run_record.utc_now(), time.monotonic()
    run_id = run_record.new_run_id(started)
    with foreseen_errors(), begun(request, beam_arguments, run_id) as (job, options):
        if dataflow.is_unattended(options):
            raise ConfigurationError("--template_location or --dry_run: there is no run to record")
        output = job.options.output
        with (
            StopOnSignal(output) as stop,
            stopping.after(output, request.max_minutes),
            console.ProgressMonitor(level),
        ):
            if dataflow.is_chosen(options):
                result = dataflow_jobs.submit(job, options)
                dataflow_jobs.wait(result, options)
            elif portable_jobs.is_chosen(options):
                result = portable_jobs.execute(job, options)
            else:
                result = runs.execute(job, pipeline_options(options))
        seconds = time.monotonic() - start
        record = run_record.make_record(job, options, result, started, seconds)
        yield record, stop.received


def report_on(record: dict[str, Any], signal: Signals | None, **settings: Any) -> str:
    """Write the report of a run that was not interrupted; one line if that fails, else empty.

    The results of the run stand in any case. Call it while the output folder is locked.

    Args:
        record: the run record.
        signal: what ended the work early, if anything.
        settings: those of `reports.ReportRequest`.
    """
    if signal:
        return ""
    from pipeline.reports import ReportRequest, try_report

    request = ReportRequest(record["options"]["output"], record[columns.MODEL], **settings)
    return try_report(request)


def submit(
    request: runs.RunRequest, beam_arguments: dict[str, Any], max_failures: float | None
) -> list[str]:
    """Give a job to Dataflow and leave it to itself; lines that say where it is.

    It holds no lock but its own name, and leaves a summary but no run record.
    """
    run_id = run_record.new_run_id(run_record.utc_now())
    with foreseen_errors():
        if not dataflow.is_chosen(beam_arguments):
            raise ConfigurationError("--no-wait: only with --runner DataflowRunner")
        for name, value in {"minutes": request.max_minutes, "failures": max_failures}.items():
            if value is not None:
                raise ConfigurationError(
                    f"--max-{name}: nobody watches over it where nobody waits for the job"
                )
        with begun(request, beam_arguments, run_id) as (job, options):
            result = dataflow_jobs.submit(job, options)
    if dataflow.is_unattended(options):
        return ["No job was submitted", *filter(None, [options.get("template_location")])]
    return [result.job_id(), dataflow.console_url(options, result.job_id())]


@contextmanager
def begun(
    request: runs.RunRequest, beam_arguments: dict[str, Any], run_id: str
) -> Iterator[tuple[Job, dict[str, Any]]]:
    """As a context, a job that is ready for its runner, and all Beam options for it.

    While it is open, the output folder stays locked.
    """
    options = dataflow.complete(with_workers(beam_arguments, request.workers), request)
    on_dataflow = dataflow.is_chosen(options)
    on_portable = not on_dataflow and portable_jobs.is_chosen(options)
    if on_dataflow:
        dataflow_jobs.check(options)
    elif on_portable:
        portable_jobs.check(options)
    with runs.prepared(request, run_id) as (job, notes):
        for note in (*dataflow.notes(options, request), *notes):
            console.logger.info("%s", note)
        if on_dataflow or on_portable:
            model_files.publish(job.package, job.options.output)
        if on_dataflow:
            job = replace(job, hints=dataflow.hints(options, request))
        yield job, options


def show_plan(request: runs.RunRequest, level: int) -> None:
    """Print what a run would do, without a lock and without writing anything.

    It is found out in this process, whatever runner the run itself is for.
    """
    from pipeline import nights

    with foreseen_errors():
        package, merged = runs.check(request)
        job, notes = runs.make_job(request, package, merged, "dry run")
        for note in notes:
            console.logger.info("%s", note)
        with console.ProgressMonitor(level):
            result = runs.execute(job, pipeline_options({}), build_plan)
    images = run_record.count_images(result)
    speed = nights.last_speed(job.options.output, job.package.model_id)
    console.print_plan(images, request.max_images, speed)


def verdict(
    record: dict[str, Any], signal: Signals | None, max_failures: float | None
) -> tuple[int, str]:
    """The exit code that a run comes to, and why in one line; empty where all is well.

    Args:
        record: the run record.
        signal: what ended the work early, if anything.
        max_failures: share of the images that may fail; None: all but not every one.
    """
    images = record["images"]
    if signal:
        left = f"{images['left']} images are left for the next run"
        return EXIT_SIGNAL + signal, f"Interrupted ({signal.name}): {left}"
    share = images["failed"] / (images["done"] + images["failed"] + images["skipped"] or 1)
    if share > max_failures if max_failures is not None else share == 1:
        return EXIT_THRESHOLD, f"Error: {images['failed']} images failed, {share:.1%} of all"
    return 0, ""
