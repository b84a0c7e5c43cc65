"""OpenVINO computes around a graph what `GraphArrays` computes with NumPy."""

import hashlib

import numpy as np
import openvino
import pytest

from models.classes import ClassTable
from models.engines.graph_arrays import GraphArrays
from models.engines.graph_model import photo_model, read_graph
from models.graphs import (
    Channels,
    Format,
    Gives,
    Graph,
    GraphInput,
    GraphOutput,
    Layout,
    Resize,
)
from models.packages import ModelDescription, ModelPackage, write_graph
from tests.onnx_models import CLASSES, segmenting

COLORS = [(0, 0, 9), (0, 9, 0), (9, 0, 0)]


@pytest.fixture
def package_of(tmp_path):
    """A function that makes a package of a network whose photos and scores are NCHW."""

    def make(
        channels: Channels, kept: tuple[int, ...], gives: Gives = Gives.LOGITS
    ) -> ModelPackage:
        content = segmenting().SerializeToString()
        graph = Graph(
            Format.ONNX,
            "f32",
            {"network.onnx": hashlib.sha256(content).hexdigest()},
            GraphInput("photo", "float32", Layout.NCHW, channels, True, Resize.STRETCH),
            GraphOutput("scores", Layout.NCHW, gives, CLASSES, kept),
        )
        description = ModelDescription(
            name="made",
            architecture="a convolution",
            width=1.0,
            input_height=64,
            input_width=96,
            mean=(0.5, 0.4, 0.3),
            std=(0.2, 0.3, 0.4),
            classes=ClassTable.of([(f"class {one}", COLORS[one]) for one in kept]),
            training={},
            metrics={},
            graph=graph,
        )
        return write_graph(tmp_path, description, {"network.onnx": content})

    return make


def run(model: openvino.Model, values: np.ndarray) -> np.ndarray:
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(model, "CPU", config)(values)[0]


@pytest.mark.parametrize("gives", [Gives.LOGITS, Gives.PROBABILITIES])
@pytest.mark.parametrize("kept", [(0, 1, 2), (1, 2), (2, 0)])
@pytest.mark.parametrize("channels", Channels)
def test_photos_and_scores_are_turned_as_the_package_states(package_of, channels, kept, gives):
    package = package_of(channels, kept, gives)
    photos = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    arrays = GraphArrays(package)
    expected = arrays.fetch(run(read_graph(package), arrays.feed(photos)))
    found = run(photo_model(package), photos)
    assert found.shape == (1, 16, 24, len(kept))
    assert np.allclose(found, expected, atol=1e-4)
