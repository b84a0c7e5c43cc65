"""The model package of a trained network, and the curves of its training."""

from __future__ import annotations

import csv
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from models import precisions
from models.engines import EngineError, Precision, load_engine
from models.evaluation import evaluate
from models.labelled_photos import list_split
from models.networks.efficientnet_lite import IMAGENET_MEAN, IMAGENET_STD
from models.packages import ModelDescription, ModelPackage, write_package
from models.speed import images_per_second, machine
from models.training.settings import TrainingConfig

logger = logging.getLogger(__name__)

SPLIT = "val"
"""The photos that a trained network is measured on."""

DATA_SETS = "data_sets"
"""Key of the metrics of several data sets, by name."""


def write_trained_package(
    directory: str | Path,
    network: keras.Model,
    config: TrainingConfig,
    name: str,
    training: dict[str, Any],
) -> ModelPackage:
    """Write `network` as a model package with its metrics on the split `val` of all data sets.

    The metrics are those of the package itself: with its half-precision weights, by the engine of
    this machine. Those of the first data set come first.

    Args:
        directory: the package's folder.
        network: the trained network.
        config: the settings of its training.
        name: of the package.
        training: data, licence and other facts of the training for users.
    """

    description = ModelDescription(
        name=name,
        architecture=config.architecture,
        width=config.width,
        input_height=config.input_height,
        input_width=config.input_width,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        classes=config.classes,
        training=training,
        metrics={},
    )
    package = write_package(directory, network, description)
    photos = [
        list_split(each.directory, SPLIT, len(config.classes), each.mapping) for each in config.data
    ]
    metrics = [evaluate(package, each) for each in photos]
    measured = metrics[0].to_dict()
    if len(metrics) > 1:
        names = (each.name for each in config.data)
        measured[DATA_SETS] = {
            name: of_set.to_dict() for name, of_set in zip(names, metrics, strict=True)
        }
    try:
        lost = precisions.losses(package, photos[0], SPLIT, metrics[0], [Precision.BF16])
    except EngineError as error:
        lost = {}
        logger.info("What bf16 loses is not measured, so that auto does not take it: %s", error)
    speed = images_per_second(load_engine(package), config.input_height, config.input_width)
    measured |= {"images_per_second": round(speed, 1), "machine": machine()}
    metrics_of_val = {"split": SPLIT, **measured}
    described = replace(description, metrics=metrics_of_val, precisions=lost)
    return write_package(directory, network, described)


def draw_curves(log: str | Path, path: str | Path) -> None:
    """Draw loss and validated mIoU over the epochs of a training's `log.csv`."""
    from matplotlib.figure import Figure

    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    epochs = [int(row["epoch"]) for row in rows]
    axes.plot(epochs, [float(row["loss"]) for row in rows], color="tab:blue", label="loss")
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    validated = [row for row in rows if row["val_miou"]]
    right = axes.twinx()
    right.plot(
        [int(row["epoch"]) for row in validated],
        [float(row["val_miou"]) for row in validated],
        "o--",
        color="tab:orange",
        label="val mIoU",
    )
    right.set_ylabel("val mIoU")
    right.set_ylim(0, 1)
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=120)
