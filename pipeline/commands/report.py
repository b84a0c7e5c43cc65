"""`citymask report`: writes a page about the results in an output folder."""

from dataclasses import replace
from typing import Any

import click

from pipeline import console, runners, streams
from pipeline.commands.common import Broken, Refused, foreseen_errors
from pipeline.commands.options import BeamCommand
from pipeline.errors import message
from pipeline.reports import ReportRequest, prepare, write_report
from pipeline.runs.request import locked, named
from transforms import storage
from transforms.output import parquet
from transforms.reporting import DEFAULT_GALLERY


@click.command(cls=BeamCommand)
@click.argument("output", metavar="OUT")
@click.option(
    "--model", metavar="M", help="Model whose results to use. Default: the model that ran last."
)
@click.option(
    "--gallery", type=click.IntRange(0), default=DEFAULT_GALLERY, show_default=True, metavar="N",
    help="Show at most N photos.",
)  # fmt: skip
@click.option(
    "--tiles", metavar="URL",
    help="Background of the map, such as https://HOST/{z}/{x}/{y}.png. Default: none.",
)  # fmt: skip
@click.option(
    "--attribution", metavar="TEXT",
    help="Attribution of the tiles. Default: their host.",
)  # fmt: skip
@click.option(
    "--indicators", metavar="FILE.yaml", help="Indicators that replace the built-in ones."
)
@click.pass_obj
def report(beam_arguments: dict[str, Any], output: str, **settings: Any) -> None:
    """Write a page about the results in OUT, the output folder of earlier runs, to OUT/report/.

    It has a map, a gallery, all shares and indicators, failures and runs, and needs no server: open
    OUT/report/index.html, or put the folder into a bucket. An older report is replaced. All options
    of Apache Beam's runners are accepted as well.
    """
    console.set_up_logging(console.NORMAL)
    streams.results_are_in_files()
    request = ReportRequest(storage.absolute(output), **settings)
    with foreseen_errors():
        job = prepare(request)
        runner = runners.choose(beam_arguments, request.output)
        runner.check([request.output])
        owner = named("report")
        with locked(request.output, owner, writes=False):
            try:
                page = write_report(replace(job, owner=owner), runner)
            except parquet.DamagedError as error:
                raise Refused(message(error)) from error
            except storage.StorageError as error:
                raise Broken(message(error)) from error
    console.say(page)
