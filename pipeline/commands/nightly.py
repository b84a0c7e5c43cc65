"""`citymask nightly`: the run of every night, as a file says, and what to know in the morning."""

import sys
from dataclasses import asdict
from signal import Signals
from typing import Any

import click

from pipeline import console
from pipeline.commands.common import (
    BeamCommand,
    Days,
    day_options,
    foreseen_errors,
)
from pipeline.errors import EXIT_THRESHOLD, EXIT_UNEXPECTED
from pipeline.nights import comparing, printing
from pipeline.nights.config import NightlyConfig, load_config
from pipeline.nights.notifying import NotifyError, notify
from pipeline.nights.retention import remove_old
from pipeline.runs import record as run_record
from pipeline.runs import request as runs
from pipeline.runs.performing import performed, report_on, show_plan, verdict
from transforms import DateRange


@click.command(cls=BeamCommand)
@click.argument("config", metavar="CONFIG.yaml")
@day_options
@click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors and alarms only.")
@click.option("--verbose", "-v", is_flag=True, help="Print what libraries say, too.")
@click.pass_obj
def nightly(
    beam_arguments: dict[str, Any],
    config: str,
    days: Days | None,
    dry_run: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Do what is new, as CONFIG.yaml says, and compare the night with those before.

    --date, --from and --to take images of some days only, to fill a gap. Days are those of arrival
    or of capture, as CONFIG.yaml says. All options of Apache Beam's runners are accepted as well;
    they go before those of CONFIG.yaml.
    """
    level = console.level_of(quiet, verbose)
    console.set_up_logging(level)
    with foreseen_errors():
        settings = load_config(config)
    request = _request(settings, days)
    if dry_run:
        show_plan(request, level)
        return
    with performed(request, settings.beam | beam_arguments, level) as (record, signal):
        output = record["options"]["output"]
        comparison = comparing.compare(
            record,
            comparing.read_archive_pixels(output),
            comparing.read_records(output),
            settings.thresholds,
        )
        failures = comparing.worst_failures(output, record["run_id"])
        record["comparison"] = comparison.to_json()
        record["worst_failures"] = [asdict(kind) for kind in failures]
        run_record.write_record(record)
        remove_old(output, settings.retention, run_record.utc_now())
        unwritten = _report(settings, record, signal)
    code, reason = verdict(record, signal, settings.thresholds.max_failures)
    reasons = [reason] if reason else []
    if comparison.alarms:
        code = code or EXIT_THRESHOLD
        reasons += [f"Alarm: {alarm}" for alarm in comparison.alarms]
    if unwritten:
        code = code or EXIT_UNEXPECTED
        reasons.append(unwritten)
    try:
        notify(settings.notify, record, code)
    except NotifyError as error:
        code = code or EXIT_UNEXPECTED
        reasons.append(f"Error: {error}")
    if not quiet:
        console.print_closing(record)
        printing.print_comparison(comparison, failures)
    for reason in reasons:
        click.echo(reason, err=True)
    sys.exit(code)


def _report(settings: NightlyConfig, record: dict[str, Any], signal: Signals | None) -> str:
    """Write the report if it is asked for; one line if that fails, else empty."""
    if not settings.report.write:
        return ""
    return report_on(record, signal, **settings.report.model_dump(exclude={"write"}))


def _request(settings: NightlyConfig, days: Days | None) -> runs.RunRequest:
    return runs.RunRequest(
        inputs=settings.inputs,
        output=settings.output,
        model=settings.model,
        overlay=settings.overlay,
        confidence=settings.confidence,
        max_pixels=settings.max_pixels,
        projection=settings.projection,
        engine=settings.engine,
        precision=settings.precision,
        batch_size=settings.batch_size,
        workers=settings.workers,
        unit_size=settings.unit_size,
        windows=settings.windows,
        label_ids=settings.label_ids,
        merge=settings.merge,
        max_attempts=settings.max_attempts,
        skip_duplicates=settings.skip_duplicates,
        skip_blurred=settings.skip_blurred,
        dates=DateRange(*days, settings.dates.by) if days else None,
        max_images=settings.limits.max_images,
        max_minutes=settings.limits.max_minutes,
    )
