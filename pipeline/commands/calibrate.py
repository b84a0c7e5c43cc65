"""`citymask calibrate`: finds out what a model's probabilities are worth."""

import click

from models.calibration import calibrate as run_calibration
from models.engines import EngineError, EngineName, EngineOptions, Precision
from models.packages import load_package
from pipeline import console, streams
from pipeline.commands.common import Refused
from pipeline.commands.data_sets import DataSet, data_option
from pipeline.commands.options import settings_options
from pipeline.errors import first_line
from pipeline.runs.settings import Settings
from transforms import storage


@click.command()
@click.argument("model", metavar="MODEL")
@data_option(
    "Labelled photos in the CamVid layout, that the model was not trained on; with a mapping if "
    "the labels have other classes. May be given more than once.",
    has_name=False,
)
@click.option("--output", "-o", required=True, metavar="MODEL_DIR", help="Model package to write.")
@click.option("--split", default="val", show_default=True, metavar="S", help="Photos to use.")
@settings_options(Settings, only=("engine", "precision"))
def calibrate(
    model: str,
    data: tuple[DataSet, ...],
    output: str,
    split: str,
    engine: EngineName,
    precision: Precision,
) -> None:
    """Find out what the confidences of a model are worth, and how unsure it is of usual photos.

    MODEL is the name of a shipped model or a model package. Its weights, and so its masks and its
    identity, stay. From labelled photos comes one number, the temperature, with which confidences
    are nearer to the share of right pixels; and the uncertainty above which runs call a photo
    unlike these photos.
    """
    console.set_up_logging(console.NORMAL)
    streams.results_are_in_files()
    try:
        package = load_package(model)
        for given in data:
            given.check_classes(package.classes)
        photos = [given.list_split(split, package.classes) for given in data]
        options = EngineOptions(engine, precision)
        made = run_calibration(package, photos, output, options).calibration
    except (ValueError, OSError, EngineError, storage.StorageError) as error:
        raise Refused(first_line(error)) from error
    assert made is not None, "what was written"
    console.say(
        f"{output}: temperature {made.temperature:.3f}; expected calibration error "
        f"{made.ece_before:.4f} before, {made.ece_after:.4f} after; a photo of an uncertainty "
        f"above {made.unlike_above:.4f} is unlike these"
    )
