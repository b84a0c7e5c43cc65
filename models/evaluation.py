"""How well a network segments labelled photos: mIoU, pixel accuracy, mean class accuracy.

The measures are those of Long et al., "Fully Convolutional Networks for Semantic Segmentation"
(CVPR 2015), from one confusion matrix over all pixels of a split, at the labels' own size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.classes import IGNORE, ClassTable
from models.datasets import LabelledPhotos, list_split, read_sample
from models.inputs import network_shape, resize
from models.upsampling import logits_to_mask

if TYPE_CHECKING:
    from models.packages import ModelPackage

Predict = Callable[[np.ndarray], np.ndarray]
"""uint8 RGB photos (N, h, w, 3) -> float32 logits (N, h / stride, w / stride, classes)."""


@dataclass(frozen=True)
class Metrics:
    """Quality over one split, as fractions 0..1.

    Attributes:
        names: class names in the order of the ids.
        ious: intersection over union of each class; None where the class occurs neither in labels
            nor in masks.
        miou: mean of the class IoUs that exist.
        pixel_accuracy: share of the labelled pixels that have the right class.
        mean_class_accuracy: mean over the classes in the labels of the share found.
        images: number of photos.
    """

    names: tuple[str, ...]
    ious: tuple[float | None, ...]
    miou: float
    pixel_accuracy: float
    mean_class_accuracy: float
    images: int

    def to_dict(self) -> dict[str, Any]:
        """The metrics as JSON-ready values."""
        return {
            "miou": self.miou,
            "pixel_accuracy": self.pixel_accuracy,
            "mean_class_accuracy": self.mean_class_accuracy,
            "images": self.images,
            "classes": [
                {"name": name, "iou": iou} for name, iou in zip(self.names, self.ious, strict=True)
            ],
        }


def confusion_matrix(label: np.ndarray, mask: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels by class in the label (row) and in the mask (column): int64 (classes, classes).

    Pixels with `IGNORE` in the label are left out.
    """
    labelled = label != IGNORE
    pairs = label[labelled].astype(np.int64) * classes + mask[labelled]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def metrics_from_confusion(matrix: np.ndarray, names: tuple[str, ...], images: int) -> Metrics:
    """Derive the metrics from a confusion matrix (rows: label, columns: mask).

    Raises ValueError for a matrix without a labelled pixel.
    """
    if not matrix.any():
        raise ValueError(f"the labels of {images} photos hold no pixel with a class")
    right = np.diagonal(matrix)
    labelled, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    union = labelled + predicted - right
    ious = right[union > 0] / union[union > 0]
    recalls = right[labelled > 0] / labelled[labelled > 0]
    return Metrics(
        names=names,
        ious=tuple(float(r / u) if u else None for r, u in zip(right, union, strict=True)),
        miou=float(ious.mean()),
        pixel_accuracy=float(right.sum() / matrix.sum()),
        mean_class_accuracy=float(recalls.mean()),
        images=images,
    )


def measure(
    predict: Predict,
    photos: LabelledPhotos,
    classes: ClassTable,
    input_height: int,
    input_width: int,
) -> Metrics:
    """Segment `photos` as the pipeline does and compare the full-size masks with the labels."""
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    for index in range(len(photos)):
        image, label = read_sample(photos, index)
        shape = network_shape(image.width, image.height, input_width, input_height)
        logits = predict(resize(image, shape)[np.newaxis])[0]
        mask, _ = logits_to_mask(logits, *label.shape)
        matrix += confusion_matrix(label, mask, len(classes))
    return metrics_from_confusion(matrix, classes.names, len(photos))


def evaluate(package: ModelPackage, data_dir: str | Path, split: str) -> Metrics:
    """Measure a model package on a split of labelled photos in the CamVid folder layout.

    Raises ValueError where photos or labels are missing or do not fit the package's classes.
    """
    from models.engines import load_engine

    photos = list_split(data_dir, split, len(package.classes))
    predict = load_engine(package).predict
    return measure(predict, photos, package.classes, package.input_height, package.input_width)
