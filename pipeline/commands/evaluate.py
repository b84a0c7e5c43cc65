"""`citymask evaluate`: the quality of a model, or of masks, on labelled photos."""

import json
from pathlib import Path
from typing import Any

import click

from models.engines import AUTOMATIC, EngineError, EngineName, EngineOptions, Precision
from models.evaluation import Metrics
from models.labels import LABEL_FOLDER_ENDING
from models.meanings import Common
from models.packages import load_package
from pipeline import console, runners, streams
from pipeline.commands.common import (
    LABELS_ASSUMED,
    PathOrUri,
    Refused,
    class_table,
    foreseen_errors,
)
from pipeline.commands.options import BeamCommand, settings_options
from pipeline.errors import first_line
from pipeline.evaluation import evaluate_masks, evaluate_model
from pipeline.runs.settings import Settings
from transforms import storage
from transforms.flow.records import Projection


@click.command(cls=BeamCommand)
@click.option(
    "--model", metavar="NAME_OR_PATH",
    help="Segment the photos with this model. Default: the shipped default model.",
)  # fmt: skip
@click.option(
    "--masks", multiple=True, type=PathOrUri(), metavar="MASKS",
    help="Evaluate these masks instead; may be given more than once.",
)  # fmt: skip
@click.option("--data", required=True, metavar="DIR", help="Folder in the CamVid layout.")
@click.option(
    "--classes", metavar="NAME_OR_FILE",
    help="Classes of the labels: a class set, such as camvid, or a CSV file. Default: "
    "DIR/classes.csv, else those of the model, or with --masks camvid.",
)  # fmt: skip
@click.option("--split", default="val", show_default=True, metavar="S")
@click.option(
    "--objects", multiple=True, metavar="CLASS",
    help="Also count how many connected areas of this class are found, such as lesions; may be "
    "given more than once.",
)  # fmt: skip
@settings_options(Settings, only=("engine", "precision", "windows", "projection"))
@click.option(
    "--json", "json_file", type=click.Path(), metavar="FILE", help="Write metrics to FILE."
)
@click.option(
    "--confusion", type=click.Path(), metavar="FILE.csv",
    help="Write the confusion matrix to FILE, and a chart of it beside it.",
)  # fmt: skip
@click.pass_obj
def evaluate(
    beam_arguments: dict[str, Any],
    model: str | None,
    masks: tuple[str, ...],
    data: str,
    classes: str | None,
    split: str,
    objects: tuple[str, ...],
    engine: EngineName,
    precision: Precision,
    windows: float | None,
    projection: Projection,
    json_file: str | None,
    confusion: str | None,
) -> None:
    """Measure a model on labelled photos, or existing masks, at the labels' own size.

    MASKS is a directory (searched recursively), a glob pattern, a .tar or .tfrecord shard, or a
    manifest of index masks: PNG images of class ids, 255 for no class. A mask belongs to the label
    of its name and has its classes. All options of Apache Beam's runners are accepted with --masks.

    A model of other classes than the labels is compared with them by what both have in common: by
    meanings such as vehicle or vegetation, or by the classes if one has all classes of the other.
    """
    if masks and model:
        raise Refused("--masks and --model exclude each other: give the one to be measured")
    options = EngineOptions(engine, precision)
    if masks and (options != AUTOMATIC or windows or projection is not Projection.AUTO):
        raise Refused(
            "--engine, --precision, --windows and --projection go with a model; --masks needs none"
        )
    if beam_arguments and not masks:
        raise Refused(f"Beam's options ({', '.join(beam_arguments)}) go with --masks only")
    console.set_up_logging(console.NORMAL)
    try:
        if masks:
            common, is_assumed = None, False
            metrics = _evaluate_masks(masks, data, classes, split, objects, beam_arguments)
        else:
            package = load_package(model or "default")
            labels = class_table(data, classes, package.classes)
            common = Common.of(package.classes, labels)
            is_assumed = labels is package.classes and package.graph is not None
            metrics = evaluate_model(
                package, common, data, split, options, windows, projection, objects
            )
        if json_file:
            document = json.dumps(metrics.to_dict(), indent=2) + "\n"
            Path(json_file).write_text(document, encoding="utf-8")
            streams.results_are_in_files()
        if confusion:
            metrics.write_confusion_csv(confusion)
            metrics.write_confusion_chart(Path(confusion).with_suffix(".png"))
    except (ValueError, OSError, EngineError, storage.StorageError) as error:
        raise Refused(first_line(error)) from error
    console.print_metrics(metrics)
    if common:
        console.print_left_out(common)
    if is_assumed:
        console.say(LABELS_ASSUMED.format("--classes"))


def _evaluate_masks(
    masks: tuple[str, ...],
    data: str,
    classes: str | None,
    split: str,
    objects: tuple[str, ...],
    beam_arguments: dict[str, Any],
) -> Metrics:
    labels = storage.absolute(f"{data}/{split}{LABEL_FOLDER_ENDING}")
    with foreseen_errors():
        runner = runners.choose(beam_arguments, " ".join([*masks, labels]))
        runner.check([*masks, labels])
        return evaluate_masks(masks, labels, class_table(data, classes), runner, objects)
