"""`citymask evaluate`: the quality of a model, or of masks, on labelled photos."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from models.classes import ClassTable
from models.engines import AUTOMATIC, EngineError, EngineName, EngineOptions, Precision
from models.evaluation import Metrics, mean_and_spread
from models.labelled_photos import LabelledPhotos
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
from pipeline.commands.data_sets import DataSet, data_option
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
@data_option(
    "Folder in the CamVid layout; may be given more than once. MAPPING.csv states what its labels "
    "say in the model's classes."
)
@click.option(
    "--classes", metavar="NAME_OR_FILE",
    help="Classes of labels without a mapping: a class set, such as camvid, or a CSV file. "
    "Default: DIR/classes.csv, else those of the model, or with --masks camvid.",
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
    help="Write the confusion matrix to FILE, and a chart of it beside it; with one --data.",
)  # fmt: skip
@click.pass_obj
def evaluate(
    beam_arguments: dict[str, Any],
    model: str | None,
    masks: tuple[str, ...],
    data: tuple[DataSet, ...],
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

    MAPPING.csv has the columns value,class or red,green,blue,class: a row per label value. A class
    may be several with | between them; where it is empty, pixels are left out. Several data sets
    are compared in one table, and FILE gets a document of each.
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
    if masks and (len(data) > 1 or data[0].mapping):
        raise Refused("Several data sets and mappings go with a model; --masks takes one folder")
    if confusion and len(data) > 1:
        raise Refused("--confusion goes with one data set: leave it out, or give one --data")
    if classes and all(entry.mapping for entry in data):
        raise Refused("--classes goes with labels without a mapping: leave one of both out")
    console.set_up_logging(console.NORMAL)
    commons: list[Common] = []
    try:
        if masks:
            is_assumed = False
            folder = data[0].folder
            metrics = [_evaluate_masks(masks, folder, classes, split, objects, beam_arguments)]
        else:
            package = load_package(model or "default")
            listed = [_list(entry, split, classes, package.classes) for entry in data]
            commons = [common for _, common, _ in listed]
            is_assumed = package.graph is not None and any(of_model for *_, of_model in listed)
            photos = [(photos, common) for photos, common, _ in listed]
            metrics = evaluate_model(package, photos, options, windows, projection, objects)
        by_name = {entry.name: found for entry, found in zip(data, metrics, strict=True)}
        if json_file:
            document = metrics[0].to_dict() if len(data) == 1 else _document(by_name)
            Path(json_file).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
            streams.results_are_in_files()
        if confusion:
            metrics[0].write_confusion_csv(confusion)
            metrics[0].write_confusion_chart(Path(confusion).with_suffix(".png"))
    except (ValueError, OSError, EngineError, storage.StorageError) as error:
        raise Refused(first_line(error)) from error
    if len(data) > 1:
        console.print_data_sets(by_name, commons)
    else:
        console.print_metrics(metrics[0])
        for common in commons:
            console.print_left_out(common)
    if is_assumed:
        console.say(LABELS_ASSUMED.format("--classes"))


def _list(
    data: DataSet, split: str, classes: str | None, of_model: ClassTable
) -> tuple[LabelledPhotos, Common, bool]:
    """A split, what it has in common with the model, and whether its classes are assumed."""
    if data.mapping:
        photos = data.list_split(split, of_model)
        return photos, Common.of_targets(of_model, photos.targets), False
    labels = class_table(data.folder, classes, of_model)
    try:
        common = Common.of(of_model, labels)
    except ValueError as error:
        raise ValueError(f"{data.folder}: {error}") from error
    return data.list_split(split, labels), common, labels is of_model


def _document(metrics: Mapping[str, Metrics]) -> dict[str, Any]:
    mean, spread = mean_and_spread(list(metrics.values()))
    data_sets = [{"name": name, **found.to_dict()} for name, found in metrics.items()]
    return {"data_sets": data_sets, "mean": mean, "spread": spread}


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
