"""Train a network on labelled photos of one data set or several."""

from models.training.epochs import LOG
from models.training.loop import TrainingResult, copy_layers, train
from models.training.packaging import draw_curves, write_trained_package
from models.training.settings import DataSet, TeacherModel, TrainingConfig

__all__ = [
    "LOG",
    "DataSet",
    "TeacherModel",
    "TrainingConfig",
    "TrainingResult",
    "copy_layers",
    "draw_curves",
    "train",
    "write_trained_package",
]
