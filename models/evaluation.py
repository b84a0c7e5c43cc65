"""How well a network segments labelled photos, from confusion matrices over all pixels of a split.

mIoU, pixel accuracy, mean class accuracy and frequency-weighted IoU are those of Long et al.,
"Fully Convolutional Networks for Semantic Segmentation" (CVPR 2015), at the labels' own size. The
border mIoU is the mIoU of the pixels near a class border, the "trimap" of Kohli et al., "Robust
Higher Order Potentials for Enforcing Label Consistency" (IJCV 2009): it shows how much detail
survives.

Only `evaluate` needs a network.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from models.classes import IGNORE, ClassTable
from models.csv_cells import as_text, lines
from models.engines import AUTOMATIC, EngineOptions
from models.labelled_photos import LabelledPhotos, check_sizes, read_photo
from models.meanings import Common
from models.objects import ObjectCounts, class_ids, count_objects
from models.packages import ModelPackage
from models.segmenter import Segmenter

Segment = Callable[[Path], np.ndarray]
"""The file of a photo -> its mask: class ids, uint8 (height, width)."""

BORDER_DISTANCE = 3
"""Pixels this near to another class count as near a border."""

NO_CLASS = "no class"
"""Name of the confusion matrix's last column."""

MEASURES = ("miou", "pixel_accuracy", "mean_class_accuracy")
"""The metrics by which data sets are compared."""


@dataclass(frozen=True, eq=False)
class Counts:
    """Pixels of some photos by class in the label and in the mask; counts add up.

    Attributes:
        confusion: as `confusion_matrix` gives it.
        border_confusion: the same of the pixels near a class border.
        images: number of photos.
        objects: objects of the classes that were asked for, by class id.
    """

    confusion: np.ndarray
    border_confusion: np.ndarray
    images: int
    objects: Mapping[int, ObjectCounts] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        objects = dict(self.objects)
        for class_id, counts in other.objects.items():
            objects[class_id] = objects.get(class_id, ObjectCounts()) + counts
        return Counts(
            self.confusion + other.confusion,
            self.border_confusion + other.border_confusion,
            self.images + other.images,
            objects,
        )

    @classmethod
    def nothing(cls, classes: int) -> Counts:
        """The counts of no photo."""
        zeros = np.zeros((classes, classes + 1), np.int64)
        return cls(zeros, zeros, 0)


@dataclass(frozen=True, eq=False)
class Metrics:
    """Quality over one split, as fractions 0..1; what is named without a class is a mean or sum.

    A labelled pixel that has no class in the mask counts as wrong: its class was missed.

    Attributes:
        names: class names in the order of the ids.
        confusion: as `confusion_matrix` gives it.
        border_confusion: the same of the pixels near a class border.
        images: number of photos.
        objects: objects of the classes that were asked for, by class id.

    Raises:
        ValueError: no pixel of the labels has a class.
    """

    names: tuple[str, ...]
    confusion: np.ndarray
    border_confusion: np.ndarray
    images: int
    objects: Mapping[int, ObjectCounts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.confusion.any():
            raise ValueError(f"the labels of {self.images} photos hold no pixel with a class")

    @classmethod
    def of(cls, classes: ClassTable | Common, counts: Counts) -> Metrics:
        """The metrics that counts give, of classes or of what masks and labels have in common."""
        return cls(
            classes.names,
            counts.confusion,
            counts.border_confusion,
            counts.images,
            counts.objects,
        )

    @property
    def ious(self) -> tuple[float | None, ...]:
        """Intersection over union of each class; None where neither labels nor masks show it."""
        return _ious(self.confusion)

    @property
    def dices(self) -> tuple[float | None, ...]:
        """Dice coefficient (F1) of each class: twice the intersection over the sum."""
        return tuple(None if iou is None else 2 * iou / (1 + iou) for iou in self.ious)

    @property
    def miou(self) -> float:
        """Mean of the class IoUs that exist."""
        return _mean(self.ious)

    @property
    def border_miou(self) -> float | None:
        """mIoU of the pixels near a class border; None where no label has a border."""
        return _mean(_ious(self.border_confusion)) if self.border_confusion.any() else None

    @property
    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels that have the right class."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def mean_class_accuracy(self) -> float:
        """Mean over the classes in the labels of the share of their pixels that is found."""
        labelled = self.confusion.sum(axis=1)
        return float((np.diagonal(self.confusion) / np.maximum(labelled, 1))[labelled > 0].mean())

    @property
    def frequency_weighted_iou(self) -> float:
        """Mean of the class IoUs, weighted by the pixels of the class in the labels."""
        ious = [0.0 if iou is None else iou for iou in self.ious]
        return float(np.average(ious, weights=self.confusion.sum(axis=1)))

    def to_dict(self) -> dict[str, Any]:
        """The metrics as JSON-ready values."""
        objects = {class_id: counts.to_dict() for class_id, counts in self.objects.items()}
        return {
            "miou": self.miou,
            "pixel_accuracy": self.pixel_accuracy,
            "mean_class_accuracy": self.mean_class_accuracy,
            "frequency_weighted_iou": self.frequency_weighted_iou,
            "border_miou": self.border_miou,
            "images": self.images,
            "classes": [
                {"name": name, "iou": iou, "dice": dice}
                | ({"objects": objects[class_id]} if class_id in objects else {})
                for class_id, (name, iou, dice) in enumerate(
                    zip(self.names, self.ious, self.dices, strict=True)
                )
            ],
        }

    def write_confusion_csv(self, path: str | Path) -> None:
        """Write the confusion matrix as a table: a row per class of the labels.

        The column `no class` is there only if the masks have such pixels.
        """
        columns, confusion = self._shown_confusion()
        rows = zip(map(as_text, self.names), confusion.tolist(), strict=True)
        header = ["label", *map(as_text, columns)]
        Path(path).write_bytes(lines([header, *([name, *row] for name, row in rows)]))

    def write_confusion_chart(self, path: str | Path) -> None:
        """Draw the confusion matrix, each row as shares of the label's pixels."""
        from matplotlib.figure import Figure

        columns, confusion = self._shown_confusion()
        shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        side = 2.5 + 0.5 * len(self.names)
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(columns)), columns, rotation=90, parse_math=False)
        axes.set_yticks(range(len(self.names)), self.names, parse_math=False)
        axes.set_xlabel("class in the mask")
        axes.set_ylabel("class in the label")
        if len(self.names) <= 30:
            for row, column in np.argwhere(shares >= 0.01):
                share = shares[row, column]
                color = "white" if share > 0.5 else "black"
                axes.text(
                    column, row, f"{share:.0%}", ha="center", va="center", color=color, fontsize=8
                )
        figure.colorbar(image, label="share of the label's pixels", shrink=0.8)
        figure.savefig(path, dpi=120)

    def _shown_confusion(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Column names and the confusion matrix, without a column of no class that is empty."""
        if self.confusion[:, len(self.names) :].any():
            return (*self.names, NO_CLASS), self.confusion
        return self.names, self.confusion[:, : len(self.names)]


def count_pixels(
    label: np.ndarray, mask: np.ndarray, classes: int, objects: Sequence[int] = ()
) -> Counts:
    """The counts of one photo, and of the `objects` of these class ids.

    Takes and raises what `confusion_matrix` does.
    """
    confusion, border = confusion_matrix(label, mask, classes), near_border(label)
    return Counts(
        confusion,
        confusion_matrix(label[border], mask[border], classes),
        1,
        {class_id: count_objects(label, mask, class_id) for class_id in objects},
    )


def count_common(
    label: np.ndarray, mask: np.ndarray, common: Common, objects: Sequence[int] = ()
) -> Counts:
    """The counts of one photo, over what the classes of its label and of its mask have in common.

    Pixels whose class in the label the masks cannot have are left out. Where the mask has a class
    that labels cannot have, the pixel counts as one without a class: its class was missed.

    Args:
        label: ids that labels hold (of classes, or of targets) or `IGNORE`, uint8.
        mask: ids of the mask's classes or `IGNORE`, uint8 of the label's shape.
        common: what they have in common.
        objects: positions in its names of the classes whose objects are counted.

    Raises:
        ValueError: the mask holds a value that is neither; the message does not name the mask.
    """
    _check_ids(mask, common.columns.shape[1])
    return count_pixels(*common.to_common(label, mask), len(common.names), objects)


def confusion_matrix(label: np.ndarray, mask: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels by class in the label (row) and in the mask (column).

    Args:
        label: class ids, uint8; pixels with `IGNORE` are left out.
        mask: class ids or `IGNORE`, uint8 of the label's shape.
        classes: number of classes.

    Returns:
        int64 (classes, classes + 1); the last column holds the pixels with `IGNORE` in the mask.

    Raises:
        ValueError: the mask holds a value that is neither; the message does not name the mask.
    """
    _check_ids(mask, classes)
    labelled = label != IGNORE
    columns = np.where(mask == IGNORE, classes, mask)[labelled]
    pairs = label[labelled].astype(np.int64) * (classes + 1) + columns
    return np.bincount(pairs, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def _check_ids(mask: np.ndarray, classes: int) -> None:
    outside = np.unique(mask[(mask >= classes) & (mask != IGNORE)])
    if outside.size:
        raise ValueError(
            f"holds {outside.tolist()}; expected class ids 0..{classes - 1}, or {IGNORE} for no "
            "class. Fix the mask or the class table"
        )


def near_border(label: np.ndarray, distance: int = BORDER_DISTANCE) -> np.ndarray:
    """Pixels with another class at most `distance` rows and columns away: bool (height, width).

    Pixels without a class count as a class of their own.
    """
    image, size = Image.fromarray(label), 2 * distance + 1
    largest = np.asarray(image.filter(ImageFilter.MaxFilter(size)))
    return largest != np.asarray(image.filter(ImageFilter.MinFilter(size)))


def measure(
    segment: Segment,
    photos: LabelledPhotos,
    common: Common,
    streams: int = 1,
    objects: Sequence[str] = (),
) -> Metrics:
    """Segment photos and compare the full-size masks with the labels.

    Args:
        segment: gives the mask of a photo's file.
        photos: photos with their labels.
        common: what the classes of masks and of labels have in common; for labels with a mapping
            `Common.of_targets(classes, photos.targets)`.
        streams: calls of `segment` that run side by side.
        objects: names of `common` whose objects are counted, see `models.objects`.

    Raises:
        ValueError: a photo or label cannot be read, their sizes differ, no pixel has a class, or a
            name is unknown.
    """
    ids = class_ids(common.names, objects)

    def count(index: int) -> Counts:
        label = photos.read_label(index)
        mask = segment(photos.images[index])
        check_sizes(photos, index, label.shape, mask.shape)
        return count_common(label, mask, common, ids)

    with ThreadPoolExecutor(streams) as pool:
        counts = sum(pool.map(count, range(len(photos))), Counts.nothing(len(common.names)))
    try:
        return Metrics.of(common, counts)
    except ValueError as error:
        raise ValueError(f"{photos.labels[0].parent}: {error}") from error


def evaluate(
    package: ModelPackage, photos: LabelledPhotos, options: EngineOptions = AUTOMATIC
) -> Metrics:
    """Measure a model package on photos that are labelled with its classes.

    Photos are opened as they are, stretched to the network's input. `citymask evaluate` decodes
    them as a run does.

    Raises:
        ValueError: photos or labels cannot be read or do not fit the package's classes.
        EngineError: the requested engine is not available.
    """
    segmenter = Segmenter.load(package, replace(options, batch_size=1))

    def segment(path: Path) -> np.ndarray:
        return segmenter.segment(read_photo(path)).mask

    common = Common.of_targets(package.classes, photos.targets)
    return measure(segment, photos, common, segmenter.streams)


def mean_and_spread(
    metrics: Sequence[Metrics],
) -> tuple[dict[str, float], dict[str, float]]:
    """Means and standard deviations over at least two data sets, of each of `MEASURES`.

    The standard deviation is that of a sample: its divisor is the number of data sets less one.
    """
    values = {name: [getattr(entry, name) for entry in metrics] for name in MEASURES}
    return (
        {name: statistics.mean(of) for name, of in values.items()},
        {name: statistics.stdev(of) for name, of in values.items()},
    )


def _ious(confusion: np.ndarray) -> tuple[float | None, ...]:
    right = np.diagonal(confusion)
    union = confusion.sum(axis=0)[: right.size] + confusion.sum(axis=1) - right
    return tuple(float(r / u) if u else None for r, u in zip(right, union, strict=True))


def _mean(values: tuple[float | None, ...]) -> float:
    return float(np.mean([value for value in values if value is not None]))
