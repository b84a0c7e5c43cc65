"""`citymask nightly`: a run configured by a file, with comparison, retention and notifications."""

import sys
from dataclasses import asdict
from signal import Signals
from typing import Any

import click

from pipeline import console, streams
from pipeline.commands.common import foreseen_errors
from pipeline.commands.options import BeamCommand, Days, day_options
from pipeline.errors import EXIT_THRESHOLD, EXIT_UNEXPECTED
from pipeline.nights import comparing, printing
from pipeline.nights.config import NightlyConfig, load_config
from pipeline.nights.notifying import NotifyError, notify
from pipeline.nights.retention import remove_old
from pipeline.runs.performing import performed, show_plan, verdict
from pipeline.runs.record import utc_now
from pipeline.runs.request import RunRequest
from transforms.output import fencing
from transforms.output.run_records import RunRecord, read_records, write_record
from transforms.output.summary import read_summary


@click.command(cls=BeamCommand)
@click.argument("config", metavar="CONFIG.yaml")
@day_options
@click.option("--dry-run", is_flag=True, help="Print the plan; write nothing.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors and alarms only.")
@click.option("--verbose", "-v", is_flag=True, help="Also print messages of libraries.")
@click.pass_obj
def nightly(
    beam_arguments: dict[str, Any],
    config: str,
    days: Days | None,
    dry_run: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Process what is new, as configured by CONFIG.yaml, and compare with previous nights.

    --date, --from and --to take images of some days only, to fill a gap. Days are those of arrival
    or of capture, as CONFIG.yaml says. All options of Apache Beam's runners are accepted as well;
    they override those of CONFIG.yaml.
    """
    level = console.level_of(quiet, verbose)
    console.set_up_logging(level)
    with foreseen_errors():
        file = load_config(config)
    request = RunRequest(inputs=file.inputs, output=file.output, days=days, **file.settings())
    if dry_run:
        with foreseen_errors():
            show_plan(request, level)
        return
    streams.results_are_in_files()
    beam_options = file.beam | beam_arguments
    with foreseen_errors(), performed(request, beam_options, level) as (record, signal):
        comparison = comparing.compare(
            record,
            comparing.archive_pixels(read_summary(record.output)),
            read_records(record.output),
            file.thresholds,
        )
        failures = comparing.worst_failures(record.output, record.run_id)
        record.comparison = comparison.to_json()
        record.worst_failures = [asdict(kind) for kind in failures]
        write_record(record, record.run_id)
        fencing.check(record.output, record.run_id)
        remove_old(record.output, file.retention, utc_now())
        unwritten = _report(file, record, signal)
    code, reason = verdict(record, signal, request.max_failures)
    reasons = [reason] if reason else []
    if comparison.alarms:
        code = code or EXIT_THRESHOLD
        reasons += [f"Alarm: {alarm}" for alarm in comparison.alarms]
    if unwritten:
        code = code or EXIT_UNEXPECTED
        reasons.append(unwritten)
    try:
        notify(file.notify, record, code)
    except NotifyError as error:
        code = code or EXIT_UNEXPECTED
        reasons.append(f"Error: {error}")
    if not quiet:
        console.print_closing(record)
        printing.print_comparison(comparison, failures)
    for reason in reasons:
        console.say(reason, err=True)
    sys.exit(code)


def _report(file: NightlyConfig, record: RunRecord, signal: Signals | None) -> str:
    """Write the report if configured; an error line if that fails, else empty."""
    if not file.report.write:
        return ""
    from pipeline.reports import report_on  # Its imports would slow the start of other nights.

    return report_on(record, signal, **file.report.model_dump(exclude={"write"}))
