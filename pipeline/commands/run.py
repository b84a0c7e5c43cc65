"""`citymask run`: from INPUTs to masks, rows and a summary."""

import sys
from signal import Signals
from typing import Any

import click

from pipeline import console, streams
from pipeline.commands.common import PathOrUri, Refused, foreseen_errors
from pipeline.commands.options import BeamCommand, Days, day_options, settings_options
from pipeline.errors import EXIT_UNEXPECTED
from pipeline.runners import dataflow_options
from pipeline.runs.performing import performed, show_plan, submit, verdict
from pipeline.runs.request import RunRequest
from pipeline.runs.settings import Settings
from transforms.output import columns
from transforms.output.run_records import RunRecord, write_record


@click.command(cls=BeamCommand)
@click.argument("inputs", nargs=-1, required=True, type=PathOrUri(), metavar="INPUT...")
@click.option(
    "--output", "-o", required=True, type=PathOrUri(), metavar="OUT",
    help="Folder for all results.",
)  # fmt: skip
@settings_options(Settings)
@day_options
@click.option(
    "--no-wait", is_flag=True,
    help="On Dataflow: submit the job, print its id and page, and exit.",
)  # fmt: skip
@click.option("--report", is_flag=True, help="Write a page about all results to OUT/report/.")
@click.option(
    "--dry-run", is_flag=True,
    help="Print the plan and an estimate of its duration; write nothing.",
)  # fmt: skip
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
@click.option("--verbose", "-v", is_flag=True, help="Also print messages of libraries.")
@click.pass_obj
def run(
    beam_arguments: dict[str, Any],
    inputs: tuple[str, ...],
    output: str,
    days: Days | None,
    no_wait: bool,
    report: bool,
    dry_run: bool,
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> None:
    """Segment the images of INPUT... and write masks and statistics to OUT.

    INPUT is a directory (searched recursively), a glob pattern, an image, a .tar or .tfrecord
    shard, or a .csv, .parquet or .txt manifest. Images that have results already are skipped. All
    options of Apache Beam's runners are accepted as well (--runner, --direct_num_workers, ...).
    """
    level = console.level_of(quiet, verbose)
    console.set_up_logging(level)
    request = RunRequest(inputs=inputs, output=output, days=days, **settings)
    if dry_run:
        with foreseen_errors():
            show_plan(request, level)
        return
    streams.results_are_in_files()
    if no_wait or dataflow_options.is_unattended(beam_arguments):
        if report:
            raise Refused(
                "--report: nobody waits for the job; `citymask report OUT` writes it afterwards"
            )
        with foreseen_errors():
            lines = submit(request, beam_arguments)
        if not quiet:
            console.say("\n".join(lines))
        return
    with foreseen_errors(), performed(request, beam_arguments, level) as (record, signal):
        write_record(record, record.run_id)
        unwritten = _report(record, signal) if report else ""
    if not quiet:
        console.print_classes(record.output)
        console.print_closing(record)
        if report and not (unwritten or signal):
            console.say(f"Report in {record.output}/{columns.REPORT}")
    code, reason = verdict(record, signal, request.max_failures)
    console.say(reason, err=True)
    console.say(unwritten, err=True)
    sys.exit(code or (EXIT_UNEXPECTED if unwritten else 0))


def _report(record: RunRecord, signal: Signals | None) -> str:
    """See `report_on`, which most runs do without: its imports would slow their start."""
    from pipeline.reports import report_on

    return report_on(record, signal)
