"""What a training learns from: the photos of all data sets, their targets, and the teachers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.label_mappings import Target, joint_targets, target_positions
from models.labelled_photos import LabelledPhotos, count_targets, list_split
from models.packages import load_package
from models.training.crops import TrainingSet
from models.training.distillation import Teacher
from models.training.settings import TrainingConfig
from models.training.unlabelled_photos import find_photos


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a training learns from and is validated on.

    Attributes:
        sets: the data sets with labels, then the photos that have none.
        validation: the split `val` of each data set with labels.
        teachers: models to learn from.
        targets: what labels and teachers can say of a pixel; those of the single classes come
            first.
        shares: how much of what is drawn is labelled as each class, float64 (classes,).
    """

    sets: tuple[TrainingSet, ...]
    validation: tuple[LabelledPhotos, ...]
    teachers: tuple[Teacher, ...]
    targets: tuple[Target, ...]
    shares: np.ndarray

    @property
    def photos(self) -> int:
        """Number of photos to train on."""
        return sum(len(each.photos) for each in self.sets)


def load_data(config: TrainingConfig) -> TrainingData:
    """List the photos of a training, read all labels, and load the teachers.

    All labels are read, so that a bad one is found now and not hours later.

    Raises:
        ValueError: photos or labels are missing, damaged or do not fit; a class has no pixel in any
            of several data sets; or a teacher does not fit.
        PackageError: there is no such teacher, or its weights cannot be read.
        EngineError: a teacher does not run here.
    """
    photos, validation = (
        [list_split(s.directory, split, len(config.classes), s.mapping) for s in config.data]
        for split in ("train", "val")
    )
    for each in validation:
        count_targets(each)
    shares = _class_shares(config, photos)
    teachers = [
        Teacher.load(load_package(each.model), config.classes, each.mapping)
        for each in config.teachers
    ]
    said = [*(each.targets for each in photos), *(each.targets for each in teachers)]
    targets = joint_targets(said, len(config.classes))
    labelled = [
        TrainingSet(each, data.weight, target_positions(each.targets, targets))
        for data, each in zip(config.data, photos, strict=True)
    ]
    unlabelled = [
        TrainingSet(find_photos(folder), config.unlabelled_weight, target_positions((), targets))
        for folder in config.unlabelled
    ]
    return TrainingData(
        (*labelled, *unlabelled), tuple(validation), tuple(teachers), targets, shares
    )


def _class_shares(config: TrainingConfig, photos: Sequence[LabelledPhotos]) -> np.ndarray:
    """See `TrainingData.shares`; a pixel of several possible classes counts for each in part."""
    shares = np.zeros(len(config.classes))
    for data, each in zip(config.data, photos, strict=True):
        counts = np.zeros(len(config.classes))
        for target, pixels in zip(each.targets, count_targets(each), strict=True):
            counts[list(target.classes)] += pixels / len(target.classes)
        if not counts.any():
            raise ValueError(
                f"{data.directory}: the labels of its photos to train on hold no pixel with a "
                "class; check the class table or the mapping"
            )
        shares += data.weight * counts / counts.sum()
    return shares / shares.sum()
