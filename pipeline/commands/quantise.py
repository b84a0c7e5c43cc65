"""`citymask quantise`: adds a network in 8-bit integers to a model package."""

import click

from models.engines import EngineError
from models.packages import load_package
from models.quantisation import DEFAULT_PHOTOS
from models.quantisation import quantise as run_quantisation
from pipeline import console, streams
from pipeline.commands.common import Refused
from pipeline.errors import first_line


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "--data", required=True, metavar="DIR",
    help="Folder of photos to calibrate on; with labels, in the CamVid layout, to measure on too.",
)  # fmt: skip
@click.option("--output", "-o", required=True, metavar="MODEL_DIR", help="Model package to write.")
@click.option(
    "--split", default="val", show_default=True, metavar="S", help="Labelled photos to measure on."
)
@click.option(
    "--photos", "most", type=click.IntRange(1), default=DEFAULT_PHOTOS, show_default=True,
    help="Photos to calibrate on.",
)  # fmt: skip
@click.option(
    "--max-loss", type=click.FloatRange(0, 100), default=0.5, show_default=True, metavar="POINTS",
    help="Write nothing if int8 loses more mIoU than this, in percentage points.",
)  # fmt: skip
def quantise(model: str, data: str, output: str, split: str, most: int, max_loss: float) -> None:
    """Add a network in 8-bit integers to a model, for faster runs on CPUs.

    MODEL is the name of a shipped model or a model package. The weights, and so the identity of the
    model, stay. Photos for calibration need no labels; without labels the loss of quality is
    unknown, and int8 is used with --precision int8 only. Needs NNCF: pip install
    'citymask[quantise]'.
    """
    console.set_up_logging(console.NORMAL)
    streams.results_are_in_files()
    try:
        written = run_quantisation(load_package(model), data, output, split, most, max_loss / 100)
    except (ValueError, OSError, EngineError) as error:
        raise Refused(first_line(error)) from error
    if written.single is None or written.int8 is None:
        console.say(
            f"{output}: int8 network written; its loss is unknown, as {data} has no {split} labels"
        )
    else:
        console.say(
            f"{output}: mIoU {written.single:.4f} in f32, {written.int8:.4f} in int8, on {split}"
        )
