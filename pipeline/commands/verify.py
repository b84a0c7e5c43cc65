"""`citymask verify`: checks an output folder."""

import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import apache_beam as beam
import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline import console, runners, streams
from pipeline.commands.common import foreseen_errors
from pipeline.commands.options import BeamCommand
from pipeline.errors import EXIT_THRESHOLD, ConfigurationError
from pipeline.runners import Metrics
from pipeline.runs.request import locked, named
from transforms import VerifyOutput, storage
from transforms.checking import verifying
from transforms.output import columns, names
from transforms.output.findings import Finding, read_findings
from transforms.output.rows import count_by_model

SHOWN = 3
"""Maximum findings of a kind that are printed."""


@click.command(cls=BeamCommand)
@click.argument("output", metavar="OUT")
@click.pass_obj
def verify(beam_arguments: dict[str, Any], output: str) -> None:
    """Check all masks, rows and files of OUT, the output folder of earlier runs.

    What is wrong is printed and written to OUT/findings.parquet; the next run repairs it. Nothing
    else is changed. Exit code 3 says that something is wrong. All options of Apache Beam's runners
    are accepted as well.
    """
    console.set_up_logging(console.NORMAL)
    streams.results_are_in_files()
    with foreseen_errors():
        output = storage.absolute(output)
        runner = runners.choose(beam_arguments, output)
        try:
            _check_output(output)
        except storage.StorageError as error:
            raise ConfigurationError(str(error)) from error
        runner.check([output])
        owner = named("verify")
        with locked(output, owner, writes=False):
            metrics = runner.run(partial(build_graph, output=output, owner=owner))
            findings = read_findings(output)
            rows = rows_of_models(output, metrics)
    note = verifying.summary_note(output, rows)
    if findings:
        _print_findings(findings)
    if note:
        console.say(f"Note: {note}")
    if findings:
        path = os.path.join(output, columns.FINDINGS)
        console.say(f"{len(findings)} findings in {path}; the next run repairs them")
        sys.exit(EXIT_THRESHOLD)
    # Every row has a mask of its own, or there would be findings.
    total = sum(rows.values())
    console.say(f"{total} masks and {total} rows are whole")


def build_graph(pipeline: beam.Pipeline, output: str, owner: str = "") -> None:
    """Add the steps that verify an output folder and write the findings."""
    (
        pipeline
        | "Verify" >> VerifyOutput(output)
        | "Collect" >> beam.combiners.ToList()
        | "Write" >> beam.Map(verifying.settle, output, owner)
    )


def rows_of_models(output: str, metrics: Metrics) -> dict[str, int]:
    """Rows by model: as the graph counted them or, where its runner has no metrics, counted here.

    Raises:
        StorageError: a statistics file cannot be read.
    """
    if metrics.known:
        counters = metrics.in_namespace(verifying.COUNTERS)
        prefix = verifying.ROWS_OF
        return {n.removeprefix(prefix): c for n, c in counters.items() if n.startswith(prefix)}
    return count_by_model(output)


def _check_output(output: str) -> None:
    storage.check_writable(output)
    if not storage.is_folder(output):
        raise ConfigurationError(f"{output}: no such folder; give the --output of a run")
    statistics = storage.is_folder(os.path.join(output, columns.STATISTICS))
    if not statistics and not any(verifying.mask_folders(output)):
        raise ConfigurationError(
            f"{output}: holds neither {columns.STATISTICS}/ nor {columns.MASKS}/; "
            "give the --output of a run"
        )


def _print_findings(findings: Sequence[Finding]) -> None:
    """Print the number of findings of each kind, and the first ones, to standard output."""
    by_kind = defaultdict(list)
    for finding in findings:
        by_kind[finding.kind].append(finding)
    table = Table("what", header_style="bold")
    table.add_column("number", justify="right")
    table.add_column("first", overflow="fold")
    for kind, of_kind in by_kind.items():
        first = (f"{f.image or f.path}: {f.message}" for f in of_kind[:SHOWN])
        table.add_row(kind, str(len(of_kind)), Text("\n".join(map(names.printable, first))))
    Console().print(table)
