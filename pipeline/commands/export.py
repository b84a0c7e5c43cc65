"""`citymask export`: writes the results in formats of other tools."""

from typing import Any

import click

from models.indicators import IndicatorError, Indicators
from pipeline import console, runners, streams
from pipeline.commands.common import Refused, foreseen_errors
from pipeline.commands.options import BeamCommand
from pipeline.errors import message
from pipeline.exporting import Export, check, make_formats
from pipeline.exporting import export as make_exports
from transforms import storage
from transforms.exporting import FORMATS, ExportError
from transforms.output.archives import ArchiveError, open_archive


@click.command(cls=BeamCommand)
@click.argument("output", metavar="OUT")
@click.option(
    "--format", "chosen", type=click.Choice(list(FORMATS)), multiple=True, required=True,
    help="Format to write to OUT/exports/NAME; may be given more than once.",
)  # fmt: skip
@click.option(
    "--model", metavar="M", help="Model whose results to use. Default: the model that ran last."
)
@click.option(
    "--indicators",
    "file",
    metavar="FILE",
    help="Indicators that replace the built-in ones.",
)
@click.option(
    "--resolution", type=click.IntRange(0, 15), default=9, show_default=True, metavar="R",
    help="H3 resolution of the hexagons: 0 to 15.",
)  # fmt: skip
@click.pass_obj
def export(
    beam_arguments: dict[str, Any],
    output: str,
    chosen: tuple[str, ...],
    model: str | None,
    file: str | None,
    resolution: int,
) -> None:
    """Write the results in OUT, the output folder of earlier runs, for other tools.

    An older export of the same name is replaced. All options of Apache Beam's runners are accepted
    as well.
    """
    console.set_up_logging(console.NORMAL)
    streams.results_are_in_files()
    with foreseen_errors():
        try:
            archive = open_archive(output, model)
            runner = runners.choose(beam_arguments, archive.output)
            runner.check([archive.output])
            indicators = Indicators.load(archive.classes, file)
            formats = make_formats(archive, indicators, chosen, resolution)
            for note in check(archive, formats):
                console.say(f"Note: {note}")
            exports = make_exports(archive, formats, runner)
        except (ArchiveError, ExportError, IndicatorError, storage.StorageError) as error:
            raise Refused(message(error)) from error
    for made in exports:
        console.say(f"{made.folder}{_counted(made)}")


def _counted(made: Export) -> str:
    """The number of photos of an export as text; empty if the runner has no metrics."""
    if made.exported is None:
        return ""
    text = f": {made.exported.photos} photos"
    if made.exported.left_out:
        text += f"; {made.exported.left_out} {made.form.left_out}"
    return text
