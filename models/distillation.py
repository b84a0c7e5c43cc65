"""Distillation: a trained model's probabilities as training targets, mixed with the labels.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, at temperature 1.
"""

import numpy as np
from keras import ops

from models.classes import ClassTable
from models.engines import load_engine
from models.graphs import Gives
from models.packages import load_package

TEACHER_SHARE = 0.5
"""Weight of the teacher's probabilities in the targets; the labels have the rest."""


class Teacher:
    """A trained model that predicts class probabilities for training crops.

    Args:
        model: name or path of a model package.
        classes: the classes of the labels.

    Raises:
        PackageError: there is no such model, or its weights cannot be read.
        ValueError: the model's classes are not those of the labels, or it is an imported network
            that gives class ids or takes one size only.
        EngineError: it does not run here.
    """

    def __init__(self, model: str, classes: ClassTable):
        package = load_package(model)
        if package.classes.names != classes.names:
            raise ValueError(
                f"{package.path}: a teacher needs the classes of the labels, "
                f"{', '.join(classes.names)}; {package.name} has "
                f"{', '.join(package.classes.names)}"
            )
        graph = package.graph
        if graph and (graph.output.gives is Gives.CLASS_IDS or not graph.input.open):
            raise ValueError(
                f"{package.path}: a teacher gives a score for each class, for crops of any size; "
                f"{package.name} gives {graph.output.gives.value}, for "
                f"{'any size' if graph.input.open else 'one size only'}"
            )
        self._engine = load_engine(package)

    def soften(self, crops: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Mix the labels with the teacher's probabilities.

        Args:
            crops: uint8 RGB (N, h, w, 3).
            labels: class ids, uint8 (N, h, w).

        Returns:
            float16 (N, h, w, C): the weight of each class; all zeros for a pixel without a class.
        """
        logits = self._engine.predict(crops)
        logits = ops.image.resize(logits, labels.shape[1:], interpolation="bilinear")
        classes = logits.shape[-1]
        probabilities = ops.softmax(logits) * ops.cast(labels < classes, "float32")[..., None]
        one_hot = ops.one_hot(ops.cast(labels, "int32"), classes, dtype="float32")
        mixed = (1 - TEACHER_SHARE) * one_hot + TEACHER_SHARE * probabilities
        return ops.convert_to_numpy(ops.cast(mixed, "float16"))
