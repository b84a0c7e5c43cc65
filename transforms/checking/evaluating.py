"""Evaluating: compares existing masks with the labels of the same photos.

What is wrong with a mask is part of the result, not an exception: so it is told in one line by any
runner, and all masks are looked at.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import partial, reduce
from operator import add
from typing import Any
from urllib.parse import unquote

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton

from models.classes import ClassTable
from models.evaluation import Counts, Metrics, count_pixels
from models.labels import LABEL_SUFFIX, decode_index_image, decode_label
from models.objects import ObjectCounts
from transforms import storage
from transforms.flow.records import ImageRef
from transforms.inputs.listing import ListImages
from transforms.inputs.members import ShardError
from transforms.inputs.reading import read_image
from transforms.output import names
from transforms.photos import decoding

SHOWN = 3
"""Cases that a finding names."""

LABELS = "labels"
MASKS = "masks"


@dataclass(frozen=True)
class Findings:
    """Cases of something: how many, and the first few in the order of their text; they add up."""

    number: int = 0
    first: tuple[str, ...] = ()

    @classmethod
    def of(cls, *cases: str) -> Findings:
        """Findings of these cases."""
        return cls(len(cases), tuple(sorted(cases)[:SHOWN]))

    def __add__(self, other: Findings) -> Findings:
        first = sorted(self.first + other.first)[:SHOWN]
        return Findings(self.number + other.number, tuple(first))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What comparing some masks with their labels gave; evaluations add up.

    Attributes:
        counts: of the masks that could be compared.
        problems: masks that could not be, a line each that begins with the mask.
        unmasked: file names of labels without a mask.
    """

    counts: Counts
    problems: Findings = Findings()
    unmasked: Findings = Findings()

    def __add__(self, other: Evaluation) -> Evaluation:
        return Evaluation(
            self.counts + other.counts,
            self.problems + other.problems,
            self.unmasked + other.unmasked,
        )

    def metrics(self, classes: ClassTable) -> Metrics:
        """The metrics over all masks.

        Raises:
            ValueError: a mask could not be compared or a label has no mask; one line.
        """
        if self.problems.number:
            more = self.problems.number - 1
            others = f" ({more} more masks cannot be evaluated)" if more else ""
            raise ValueError(self.problems.first[0] + others)
        if self.unmasked.number:
            more = self.unmasked.number - len(self.unmasked.first)
            raise ValueError(
                f"{self.unmasked.number} of {self.unmasked.number + self.counts.images} labels "
                f"have no mask: {', '.join(self.unmasked.first)}"
                + (f" and {more} more" if more else "")
                + ". Add their masks, or move these labels"
            )
        return Metrics.of(classes, self.counts)

    def to_json(self) -> str:
        """The evaluation as text."""
        document = {
            "confusion": self.counts.confusion.tolist(),
            "border_confusion": self.counts.border_confusion.tolist(),
            "images": self.counts.images,
            "objects": {str(at): astuple(found) for at, found in self.counts.objects.items()},
            "problems": [self.problems.number, self.problems.first],
            "unmasked": [self.unmasked.number, self.unmasked.first],
        }
        return json.dumps(document)

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """The evaluation that `to_json` wrote."""
        document: dict[str, Any] = json.loads(text)
        counts = Counts(
            np.array(document["confusion"], np.int64),
            np.array(document["border_confusion"], np.int64),
            document["images"],
            {int(at): ObjectCounts(*found) for at, found in document["objects"].items()},
        )
        problems, unmasked = (
            Findings(number, tuple(first))
            for number, first in (document["problems"], document["unmasked"])
        )
        return cls(counts, problems, unmasked)


@dataclass(frozen=True)
class Labels:
    """File names of labels, which may hold any bytes."""

    names: frozenset[str]

    @classmethod
    def of_folder(cls, folder: str) -> Labels:
        """The labels in a folder; raises what `list_labels` raises."""
        return cls(frozenset(list_labels(folder)))


def is_mask(ref: ImageRef) -> bool:
    """Whether a listed image is taken for a mask: all are but overlays and confidence images."""
    return not names.is_beside(ref.image)


def list_labels(folder: str) -> list[str]:
    """File names of the labels in a folder of any store, sorted; files are not opened.

    Raises:
        ValueError: there is no such folder, or it holds no label.
        StorageError: it cannot be listed.
    """
    if not storage.is_folder(folder):
        raise ValueError(f"{folder}: no such folder; expected labels NAME{LABEL_SUFFIX} there")
    start = len(folder) + 1
    found = [file.path[start:] for file in storage.list_folder(folder, LABEL_SUFFIX)]
    if not found:
        raise ValueError(f"{folder}: holds no label; expected {LABEL_SUFFIX} files")
    return found


def label_of(image: str, labels: Container[str]) -> str | None:
    """File name of the label of a mask, or None if there is none.

    Image extensions are taken off the end of the mask's name, one by one, until there is a label of
    that name: `lund/01.jpg.png` belongs to `01.png`, unless there is `01.jpg.png`. A name that
    `citymask run` had to escape is read back.

    Args:
        image: name of the mask, as in `ImageRef`; its folders do not count.
        labels: file names of all labels.
    """
    stem = image.rpartition("/")[2]
    stems = []
    while decoding.is_image_name(stem):
        stem = stem.rpartition(".")[0]
        stems.append(stem)
    for escaped in stems or [stem]:
        own = _unescape(escaped)
        for name in (own, _unescape(own)):
            label = name + LABEL_SUFFIX
            if "/" not in name and label in labels:
                return label
    return None


def compare(ref: ImageRef, label_path: str, classes: int, objects: Sequence[int] = ()) -> Counts:
    """The counts of one mask against its label.

    Args:
        ref: the mask, a PNG of mode L or P whose values are class ids, or 255 for no class.
        label_path: the label.
        classes: number of classes.
        objects: class ids whose objects are counted.

    Raises:
        ValueError: one of the two cannot be read, is no index image or holds a value outside the
            class table, or their sizes differ; one line that begins with the file.
    """
    try:
        label = decode_label(storage.read(label_path), classes)
    except (storage.StorageError, ValueError) as error:
        raise ValueError(f"{names.printable(label_path)}: {error}") from error
    try:
        mask = decode_index_image(read_image(ref), label.shape)
        return count_pixels(label, mask, classes, objects)
    except (storage.StorageError, ShardError, ValueError) as error:
        raise ValueError(f"{ref.uri}: {error}") from error


def evaluate_label(
    label: str | None,
    refs: Sequence[ImageRef],
    folder: str,
    classes: int,
    objects: Sequence[int] = (),
) -> Evaluation:
    """Compare a label with the masks that were given for it.

    Args:
        label: file name of the label, or None for masks without one.
        refs: the masks.
        folder: the folder of labels.
        classes: number of classes.
        objects: class ids whose objects are counted.
    """
    nothing = Counts.nothing(classes)
    if label is None:
        return Evaluation(nothing, Findings.of(*(_without_label(ref, folder) for ref in refs)))
    if not refs:
        return Evaluation(nothing, unmasked=Findings.of(names.printable(label)))
    if len(refs) > 1:
        first, second, *_ = sorted(ref.uri for ref in refs)
        line = f"{second}: its label has a mask already, {first}. Give one mask for each label"
        return Evaluation(nothing, Findings.of(line))
    try:
        return Evaluation(compare(refs[0], f"{folder}/{label}", classes, objects))
    except ValueError as error:
        return Evaluation(nothing, Findings.of(str(error)))


def write_evaluation(evaluation: Evaluation, folder: str, name: str) -> None:
    """Write an evaluation as JSON; raises StorageError where that is impossible."""
    storage.write(folder, name, evaluation.to_json().encode())


@dataclass
class EvaluateMasks(beam.PTransform):
    """Compares masks with labels: PCollection[str] -> PCollection[Evaluation] of one element.

    The input are INPUTs as `ListImages` takes them, whose images are masks; overlays and
    confidence images beside them are ignored. Every label must have one mask, and every mask a
    label (see `label_of`). Only names and counts are shuffled, never pixels.

    Attributes:
        folder: the folder of labels, PNGs of class ids.
        classes: number of classes.
        objects: class ids whose objects are counted, see `models.objects`.
    """

    folder: str
    classes: int
    objects: tuple[int, ...] = ()

    def expand(self, masks: beam.PCollection[str]) -> beam.PCollection[Evaluation]:
        labels = (
            masks.pipeline
            | "LabelFolder" >> beam.Create([self.folder], reshuffle=False)
            | "ListLabels" >> beam.Map(Labels.of_folder)
        )
        keyed = labels | "KeyByName" >> beam.FlatMap(_keys).with_output_types(tuple[str, bool])
        refs = (
            masks
            | "ListMasks" >> ListImages()
            | "KeepMasks" >> beam.Filter(is_mask)
            | "FindLabel"
            >> beam.Map(_keyed, AsSingleton(labels)).with_output_types(tuple[str, ImageRef])
        )
        return (
            {LABELS: keyed, MASKS: refs}
            | "PairByLabel" >> beam.CoGroupByKey()
            | "Compare"
            >> beam.Map(_evaluate_pair, self.folder, self.classes, self.objects).with_output_types(
                Evaluation
            )
            | "AddUp" >> beam.CombineGlobally(partial(_add_up, classes=self.classes))
        )


def _without_label(ref: ImageRef, folder: str) -> str:
    if ref.damage:
        return f"{ref.uri}: {ref.damage}"
    return f"{ref.uri}: has no label of its name in {folder}. Add the label, or take the mask out"


def _unescape(name: str) -> str:
    """What `names.image_name` escaped."""
    return unquote(name, errors="surrogateescape")


def _keys(labels: Labels) -> Iterator[tuple[str, bool]]:
    """The labels under their names, escaped: any file name is then text."""
    for label in sorted(labels.names):
        yield names.image_name(label), True


def _keyed(ref: ImageRef, labels: Labels) -> tuple[str, ImageRef]:
    """A mask under its label's key, else under its own URI, which no label's key can be."""
    label = label_of(ref.image, labels.names)
    return f"/{ref.uri}" if label is None else names.image_name(label), ref


def _evaluate_pair(
    pair: tuple[str, dict[str, Iterable[Any]]],
    folder: str,
    classes: int,
    objects: Sequence[int],
) -> Evaluation:
    key, joined = pair
    label = _unescape(key) if any(joined[LABELS]) else None
    return evaluate_label(label, list(joined[MASKS]), folder, classes, objects)


def _add_up(evaluations: Iterable[Evaluation], classes: int) -> Evaluation:
    return reduce(add, evaluations, Evaluation(Counts.nothing(classes)))
