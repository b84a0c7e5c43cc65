"""Packages of small ONNX networks of Cityscapes' classes, imported for tests."""

from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

from models.classes import ClassTable
from models.importing import onnx_files
from models.importing.making import PHOTO, try_out
from models.importing.settling import Wishes, settle
from models.importing.sources import Fact, Facts
from models.inputs import SHAPE_MULTIPLE
from models.labelled_photos import read_photo
from models.packages import ModelPackage
from tests.onnx_models import STRIDE, kernel, segmenting

CITYSCAPES = ClassTable.load("cityscapes")
WIDTH, HEIGHT = 3 * SHAPE_MULTIPLE, 2 * SHAPE_MULTIPLE
"""Of photos for the networks."""

SCORES = ("N", len(CITYSCAPES), "h", "w")
ONE_SIZE = {"photo": (1, 3, HEIGHT, WIDTH), "shape": (1, *SCORES[1:])}


def imported(folder: Path, *after: Any, **network: Any) -> ModelPackage:
    """Import a network of a convolution and what comes after it; see `segmenting`."""
    file = folder.with_suffix(".onnx")
    weights = kernel(len(CITYSCAPES), 0.1)
    model = segmenting(*after, **{"shape": SCORES, "weights": weights} | network)
    file.write_bytes(model.SerializeToString())
    size = None if "photo" in network else Fact((WIDTH, HEIGHT), "a test")
    facts = Facts(input_size=size, licence=Fact("as tests are", "a test"))
    source = onnx_files.read(file)
    understood = settle(source, Wishes(facts, CITYSCAPES, "a test"), folder.name)
    return try_out(source, understood, read_photo(PHOTO)).write(folder)


def giving_scores(folder: Path) -> ModelPackage:
    """A network that takes photos of any size and gives logits."""
    return imported(folder)


def giving_scores_in_one_size(folder: Path) -> ModelPackage:
    """The same for photos of `WIDTH` x `HEIGHT`."""
    return imported(folder, **ONE_SIZE)


def giving_probabilities(folder: Path) -> ModelPackage:
    """The same for photos of any size, with a softmax at its end."""
    softmax = helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1)
    return imported(folder, softmax, output="probabilities")


def giving_class_ids(folder: Path) -> ModelPackage:
    """The same for photos of `WIDTH` x `HEIGHT`, with an argmax at its end."""
    argmax = helper.make_node("ArgMax", ["scores"], ["ids"], axis=1, keepdims=0)
    shape = (1, HEIGHT // STRIDE, WIDTH // STRIDE)
    photo = ONE_SIZE["photo"]
    return imported(folder, argmax, output="ids", dtype=TensorProto.INT64, shape=shape, photo=photo)
