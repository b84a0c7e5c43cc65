"""The settings of a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.classes import ClassTable
from models.inputs import SHAPE_MULTIPLE
from models.label_mappings import LabelMapping

CROP_SHARE = 0.75
"""Side length of a training crop, as a fraction of the network input's."""


@dataclass(frozen=True)
class DataSet:
    """Labelled photos to train on.

    Attributes:
        name: of the data set, in the log.
        directory: folder in the CamVid layout with the splits `train` and `val`.
        mapping: what label values say, if they are not class ids.
        weight: how often its photos are drawn, in proportion to the other data sets' weights.
    """

    name: str
    directory: Path
    mapping: LabelMapping | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class TeacherModel:
    """A model to learn from.

    Attributes:
        model: name or path of a model package.
        mapping: from its class ids, as label values, to the classes; None if they are the same.
    """

    model: str
    mapping: LabelMapping | None = None


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training.

    Attributes:
        data: the data sets to train on, one at least.
        output_dir: folder for checkpoint, log and best weights; a training found here is resumed.
        classes: the classes of the labels, in the order of their ids.
        architecture: name of a network in `models.networks.ARCHITECTURES`.
        width: factor on the network's channel counts.
        encoder_weights: `.npz` file of ImageNet weights, or None for random initial weights.
        start_from: model package whose layers of the same name and shape are the initial weights.
        freeze_up_to: name of a layer; it and all layers before it keep their initial weights and
            statistics. None: all are trained.
        teachers: models for distillation; what they see counts on average.
        unlabelled: folders of photos that only the teachers label, searched recursively.
        unlabelled_weight: how often photos of each of these are drawn, as `DataSet.weight`.
        input_height: nominal height of the network input, a multiple of 32. Photos are validated at
            the nominal size, and training crops are cut at random scales around it.
        input_width: nominal width of the network input, a multiple of 32.
        batch_size: crops in a step.
        epochs: passes over the training split.
        patience: stop after this many epochs without a better validated mIoU; None: never.
        learning_rate: highest learning rate, at the end of the warm-up.
        class_balance: exponent b of the class weights, frequency ** -b: 0 weights all pixels alike,
            1 all classes.
        border_weight: additional weight of a pixel near a class border, as a factor.
        dice_weight: factor on the Dice loss, which is added to the cross entropy.
        grey: probability that a photo is made grey.
        validate_every: epochs between validations; the last epoch is always validated.
        precision: a Keras dtype policy; the weights are float32 in all of them.
        seed: seed of initial weights, order of photos and augmentation.
    """

    data: tuple[DataSet, ...]
    output_dir: Path
    classes: ClassTable
    architecture: str = "efficientnet_fpn"
    width: float = 1.0
    encoder_weights: Path | None = None
    start_from: str | None = None
    freeze_up_to: str | None = None
    teachers: tuple[TeacherModel, ...] = ()
    unlabelled: tuple[Path, ...] = ()
    unlabelled_weight: float = 1.0
    input_height: int = 384
    input_width: int = 512
    batch_size: int = 8
    epochs: int = 40
    patience: int | None = None
    learning_rate: float = 1e-3
    class_balance: float = 0.4
    border_weight: float = 1.0
    dice_weight: float = 0.5
    grey: float = 0.05
    validate_every: int = 4
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    seed: int = 0

    @property
    def crop(self) -> tuple[int, int]:
        """(height, width) of a training crop: `CROP_SHARE` of the input, in multiples of 32."""
        height, width = (
            max(SHAPE_MULTIPLE, int(side * CROP_SHARE) // SHAPE_MULTIPLE * SHAPE_MULTIPLE)
            for side in (self.input_height, self.input_width)
        )
        return height, width
