"""Small model packages for tests: quick to run, with random weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from models.classes import ClassTable
from models.packages import ModelDescription, ModelPackage, write_package

TINY = ModelDescription(
    name="tiny",
    architecture="efficientnet_fpn",
    width=0.1,
    input_height=64,
    input_width=96,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    classes=ClassTable.of([("Sky", (0, 0, 255)), ("Tree top", (0, 128, 0)), ("Road", (9, 9, 9))]),
    training={"data": "none"},
    metrics={},
)


def make_model(folder: Path, seed: int = 7, **changes: Any) -> ModelPackage:
    """Write a package with the weights of a seed; `changes` replace fields of `TINY`."""
    import keras

    from models.networks import build_network

    described = replace(TINY, **changes)
    keras.utils.set_random_seed(seed)
    network = build_network(described.architecture, len(described.classes), described.width)
    return write_package(folder, network, described)
