"""Distillation: what trained models see in a photo, as training targets.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, at temperature 1. On
photos without labels only what the teachers are sure of counts, as in Lee, "Pseudo-Label", ICML
workshops 2013.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from models.classes import IGNORE, ClassTable
from models.engines import EngineOptions
from models.graphs import Gives
from models.inputs import resize_pixels
from models.label_mappings import LabelMapping, Target, single_targets, target_positions
from models.packages import ModelPackage
from models.segmenter import Inferred, NetworkInput, Segmenter

TEACHER_SHARE = 0.5
"""Weight of the teachers' probabilities in the targets of labelled pixels; the labels have the
rest."""

SURE = 0.8
"""Probability of a target from which teachers are sure of it."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained model that says what it sees in training crops.

    Attributes:
        segmenter: the model, ready to run.
        targets: what its outputs can say of a pixel, in the classes of the student.
        target_of: position in `targets` of each of its outputs, or `IGNORE` for what does not
            count, uint8 (outputs,).
    """

    segmenter: Segmenter
    targets: tuple[Target, ...]
    target_of: np.ndarray

    @classmethod
    def load(
        cls, package: ModelPackage, classes: ClassTable, mapping: LabelMapping | None = None
    ) -> Teacher:
        """Make a model a teacher.

        Args:
            package: the model.
            classes: those of the student.
            mapping: from the class ids of the model, as label values, to the student's classes.

        Raises:
            ValueError: the model has other classes and no mapping, or ids that it leaves out.
            EngineError: the model does not run here.
        """
        own = package.classes
        if mapping is None:
            if own.names != classes.names:
                raise ValueError(
                    f"{package.path}: a teacher needs the classes of the labels, "
                    f"{', '.join(classes.names)}; {package.name} has {', '.join(own.names)}. Map "
                    "them by MODEL:MAPPING.csv, with its class ids as values"
                )
            targets, target_of = single_targets(len(classes)), np.arange(len(own), dtype=np.uint8)
        else:
            missing = [name for at, name in enumerate(own.names) if at not in mapping.target_of]
            if missing:
                raise ValueError(
                    f"{mapping.source}: leaves out {', '.join(missing)} of the teacher "
                    f"{package.name}; add a row for each of its class ids 0..{len(own) - 1}"
                )
            targets = mapping.targets
            ids = (mapping.target_of[at] for at in range(len(own)))
            target_of = np.fromiter(ids, np.uint8, len(own))
        graph = package.graph
        has_scores = graph is None or graph.output.gives is not Gives.CLASS_IDS
        segmenter = Segmenter.load(package, EngineOptions(batch_size=1), confidence=has_scores)
        return cls(segmenter, targets, target_of)

    def see(self, crop: np.ndarray) -> np.ndarray:
        """Probabilities of the targets, which leave out those of outputs that do not count.

        Args:
            crop: uint8 RGB (h, w, 3).

        Returns:
            float32 (h, w, targets).

        Raises:
            ValueError: the network's output is not finite.
        """
        height, width, _ = crop.shape
        pixels = resize_pixels(crop, self.segmenter.shape_for(width, height))
        prepared = self.segmenter.prepare(NetworkInput(pixels, width, height))
        (answer,) = self.segmenter.infer([prepared])
        if isinstance(answer, ValueError):
            raise answer
        by_output = self._probabilities(answer, height, width)
        seen = np.zeros((height, width, len(self.targets)), np.float32)
        for output, target in enumerate(self.target_of):
            if target != IGNORE:
                seen[..., target] += by_output[..., output]
        return seen

    def _probabilities(self, answer: Inferred, height: int, width: int) -> np.ndarray:
        if answer.scores is None or answer.scores.ndim == 2:
            return np.eye(len(self.target_of), dtype=np.float32)[self.segmenter.finish(answer).mask]
        scores, _, (rows, columns) = answer.prepared.covered(answer.scores)
        planes = [
            np.asarray(
                Image.fromarray(plane).resize(
                    (width, height), Image.Resampling.BILINEAR, (0, 0, columns, rows)
                )
            )
            for plane in np.moveaxis(scores, -1, 0)
        ]
        logits = np.stack(planes, axis=-1)
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return odds / odds.sum(axis=-1, keepdims=True)


def soften(
    teachers: Sequence[Teacher],
    crops: np.ndarray,
    labels: np.ndarray,
    targets: Sequence[Target],
) -> np.ndarray:
    """Mix labels with what the teachers are sure of, on average.

    Args:
        teachers: one at least.
        crops: uint8 RGB (N, h, w, 3).
        labels: target ids or `IGNORE`, uint8 (N, h, w).
        targets: those of labels and teachers.

    Returns:
        float16 (N, h, w, targets): the weight of each target. Without teachers who are sure, the
        labels alone; all zeros for a pixel that has neither.
    """
    softened = np.zeros((*labels.shape, len(targets)), np.float16)
    tables = [target_positions(teacher.targets, targets) for teacher in teachers]
    for crop, label, result in zip(crops, labels, softened, strict=True):
        seen = np.zeros(result.shape, np.float32)
        for teacher, positions in zip(teachers, tables, strict=True):
            seen[..., positions[: len(teacher.targets)]] += teacher.see(crop)
        seen /= len(teachers)
        is_sure, is_labelled = seen.max(axis=-1) >= SURE, label != IGNORE
        share = np.where(is_labelled, TEACHER_SHARE, 1.0) * is_sure
        result[:] = seen * share[..., None]
        rows, columns = np.nonzero(is_labelled)
        result[rows, columns, label[is_labelled]] += 1 - share[is_labelled]
    return softened
