"""Performing: a run from its request to its record."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from signal import Signals
from typing import Any

from pipeline import console
from pipeline.commands.common import (
    foreseen_errors,
)
from pipeline.errors import EXIT_SIGNAL, EXIT_THRESHOLD, ConfigurationError
from pipeline.graph import Job, build_plan
from pipeline.runners import dataflow, dataflow_options, local, portable
from pipeline.runners.options import pipeline_options, with_workers
from pipeline.runs import record as run_record
from pipeline.runs import request as runs
from pipeline.runs.signals import StopOnSignal
from transforms.output import columns, model_files, stopping


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
        if dataflow_options.is_unattended(options):
            raise ConfigurationError("--template_location or --dry_run: there is no run to record")
        output = job.options.output
        with (
            StopOnSignal(output) as stop,
            stopping.after(output, request.max_minutes),
            console.ProgressMonitor(level),
        ):
            if dataflow_options.is_chosen(options):
                result = dataflow.submit(job, options)
                dataflow.wait(result, options)
            elif portable.is_chosen(options):
                result = portable.execute(job, options)
            else:
                result = local.execute(job, pipeline_options(options))
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
        if not dataflow_options.is_chosen(beam_arguments):
            raise ConfigurationError("--no-wait: only with --runner DataflowRunner")
        for name, value in {"minutes": request.max_minutes, "failures": max_failures}.items():
            if value is not None:
                raise ConfigurationError(
                    f"--max-{name}: nobody watches over it where nobody waits for the job"
                )
        with begun(request, beam_arguments, run_id) as (job, options):
            result = dataflow.submit(job, options)
    if dataflow_options.is_unattended(options):
        return ["No job was submitted", *filter(None, [options.get("template_location")])]
    return [result.job_id(), dataflow_options.console_url(options, result.job_id())]


@contextmanager
def begun(
    request: runs.RunRequest, beam_arguments: dict[str, Any], run_id: str
) -> Iterator[tuple[Job, dict[str, Any]]]:
    """As a context, a job that is ready for its runner, and all Beam options for it.

    While it is open, the output folder stays locked.
    """
    options = dataflow_options.complete(with_workers(beam_arguments, request.workers), request)
    on_dataflow = dataflow_options.is_chosen(options)
    on_portable = not on_dataflow and portable.is_chosen(options)
    if on_dataflow:
        dataflow.check(options)
    elif on_portable:
        portable.check(options)
    with runs.prepared(request, run_id) as (job, notes):
        for note in (*dataflow_options.notes(options, request), *notes):
            console.logger.info("%s", note)
        if on_dataflow or on_portable:
            model_files.publish(job.package, job.options.output)
        if on_dataflow:
            job = replace(job, hints=dataflow_options.hints(options, request))
        yield job, options


def show_plan(request: runs.RunRequest, level: int) -> None:
    """Print what a run would do, without a lock and without writing anything.

    It is found out in this process, whatever runner the run itself is for.
    """
    from pipeline.nights import comparing

    with foreseen_errors():
        package, merged = runs.check(request)
        job, notes = runs.make_job(request, package, merged, "dry run")
        for note in notes:
            console.logger.info("%s", note)
        with console.ProgressMonitor(level):
            result = local.execute(job, pipeline_options({}), build_plan)
    images = run_record.count_images(result)
    speed = comparing.last_speed(job.options.output, job.package.model_id)
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
