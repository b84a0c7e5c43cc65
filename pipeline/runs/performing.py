"""Performing a run, from its request to its record."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from signal import Signals
from typing import Any

from pipeline import console, runners
from pipeline.errors import EXIT_SIGNAL, EXIT_THRESHOLD, ConfigurationError, message
from pipeline.graph import Job, build_graph, build_plan
from pipeline.runners import Metrics, Runner
from pipeline.runs.record import count_images, make_record, new_run_id, utc_now
from pipeline.runs.request import RunRequest, check, make_job, prepared
from pipeline.runs.sharing import shared
from pipeline.runs.signals import StopOnSignal
from transforms.flow import progress
from transforms.output import model_files, parquet, stopping
from transforms.output.run_records import RunRecord, read_records

SHOWN = ("found", "skipped", "done", "failed")
"""Counts of images that the progress monitor shows."""


LEAST_UNREADABLE = 3
MOST_UNREADABLE = 0.2
"""So many images, and a larger share of those tried, that storage does not give are an outage."""


@contextmanager
def performed(
    request: RunRequest, beam_arguments: dict[str, Any], level: int
) -> Iterator[tuple[RunRecord, Signals | None]]:
    """Do what was asked for.

    As a context it gives the run record, still to be written, and the signal that ended the work if
    one did. While it is open, the output folder stays locked.

    Raises what `prepared` and `Runner.run` raise.
    """
    started, start = utc_now(), time.monotonic()
    request = shared(request, beam_arguments)
    with begun(request, beam_arguments, new_run_id(started)) as (job, runner):
        output = job.options.output
        with (
            StopOnSignal(output, job.options.owner) as stop,
            stopping.after(output, request.max_minutes, job.options.owner),
            console.ProgressMonitor(level),
            _damage_explained(),
        ):
            metrics = runner.run(partial(build_graph, job=job), progress_from_metrics())
        seconds = time.monotonic() - start
        yield make_record(request, job, runner.options, metrics, started, seconds), stop.received


@contextmanager
def _damage_explained() -> Iterator[None]:
    """As a context, turns damaged files of rows, which runs read, into a ConfigurationError."""
    try:
        yield
    except parquet.DamagedError as error:
        raise ConfigurationError(message(error)) from error


def progress_from_metrics() -> Callable[[Metrics], None]:
    """A function that reports the increase of the metrics since its last call as progress."""
    reported: Counter[str] = Counter()

    def report(metrics: Metrics) -> None:
        images = count_images(metrics)
        more = {name: images[name] - reported[name] for name in SHOWN}
        progress.report(**more)
        reported.update(more)

    return report


def submit(request: RunRequest, beam_arguments: dict[str, Any]) -> list[str]:
    """Submit a job to Dataflow without waiting; returns lines with its id and page.

    It holds no lock but its own name, and leaves a summary but no run record.

    Raises what `prepared` and `DataflowRunner.submit` raise.
    """
    from pipeline.runners.dataflow import DataflowRunner

    with begun(request, beam_arguments, new_run_id(utc_now()), waits=False) as (job, runner):
        assert isinstance(runner, DataflowRunner), "`begun` refuses others"
        return runner.submit(partial(build_graph, job=job))


@contextmanager
def begun(
    request: RunRequest, beam_arguments: dict[str, Any], run_id: str, waits: bool = True
) -> Iterator[tuple[Job, Runner]]:
    """As a context, a job and its runner, which is ready for it.

    While it is open, the output folder stays locked.

    Args:
        request: what was asked for.
        beam_arguments: Beam's options as the user gave them.
        run_id: names the run.
        waits: whether this process stays until the job has ended.
    """
    runner = runners.choose(beam_arguments, request.output, request.workers or 1, request.gpu)
    if not waits:
        _check_unattended(request, runner)
    runner.check((*request.inputs, request.output))
    with prepared(request, run_id) as (job, notes):
        for note in (*runner.notes, *notes):
            console.logger.info("%s", note)
        if runner.has_other_machines:
            model_files.publish(job.package, job.options.output)
        yield replace(job, hints=runner.hints), runner


def _check_unattended(request: RunRequest, runner: Runner) -> None:
    """Raise ConfigurationError where a job cannot be left to itself as it was asked for."""
    from pipeline.runners.dataflow import DataflowRunner

    if not isinstance(runner, DataflowRunner):
        raise ConfigurationError("--no-wait: only with --runner DataflowRunner")
    for name in ("max_minutes", "max_failures"):
        if getattr(request, name) is not None:
            raise ConfigurationError(
                f"--{name.replace('_', '-')}: nobody watches over it where nobody waits for the job"
            )


def show_plan(request: RunRequest, level: int) -> None:
    """Print what a run would do, without a lock and without writing anything.

    It is found out in this process, whatever runner the run itself is for.

    Raises what `check`, `make_job` and `Runner.run` raise.
    """
    package, merged = check(request)
    job, notes = make_job(request, package, merged, "dry run")
    for note in notes:
        console.logger.info("%s", note)
    with console.ProgressMonitor(level), _damage_explained():
        metrics = runners.LocalRunner({}).run(partial(build_plan, job=job))
    speed = last_speed(job.options.output, job.model_id)
    console.print_plan(count_images(metrics), request.max_images, speed)


def last_speed(output: str, model: str) -> float | None:
    """Images per second of the last run into a folder that did any with this model."""
    for record in reversed(read_records(output)):
        if record.model == model and record.images.get("done") and record.images_per_second:
            return record.images_per_second
    return None


def is_outage(record: RunRecord) -> bool:
    """Whether storage was away: the run was stopped for it, or a large share could not be read."""
    images = record.images
    unreadable, tried = images.get("unreadable", 0), images["done"] + images["failed"]
    large = unreadable >= LEAST_UNREADABLE and unreadable > MOST_UNREADABLE * tried
    return large or record.interrupted == stopping.STORAGE_ERRORS


def verdict(
    record: RunRecord, signal: Signals | None, max_failures: float | None
) -> tuple[int, str]:
    """The exit code that a run comes to, and why in one line; empty where all is well.

    Args:
        record: the run record.
        signal: the signal that ended the work early, if any.
        max_failures: share of the images that may fail; None: all but not every one.
    """
    images = record.images
    if signal:
        left = f"{images['left']} images are left for the next run"
        return EXIT_SIGNAL + signal, f"Interrupted ({signal.name}): {left}"
    if is_outage(record):
        return EXIT_THRESHOLD, (
            f"Error: {images.get('unreadable', 0)} images could not be read for reasons of "
            f"storage, {images['left']} are left; the next run tries all of them again"
        )
    share = images["failed"] / (images["done"] + images["failed"] + images["skipped"] or 1)
    if share > max_failures if max_failures is not None else share == 1:
        return EXIT_THRESHOLD, f"Error: {images['failed']} images failed, {share:.1%} of all"
    return 0, ""
