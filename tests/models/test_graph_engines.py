"""One network in all the forms that packages state: every engine gives the same scores.

OpenVINO computes what is around a network in the network's graph, ONNX Runtime in a graph beside it
or in NumPy.
"""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper, numpy_helper

from models.classes import ClassTable
from models.engines import EngineError, EngineName, EngineOptions, load_engine
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

HEIGHT, WIDTH, STRIDE = 32, 64, 4
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
ENGINES = (EngineName.OPENVINO, EngineName.ONNXRUNTIME)
F32 = EngineOptions(threads=1)

WEIGHTS = np.random.default_rng(5).normal(0, 0.2, (3, 3, STRIDE, STRIDE)).astype(np.float32)


def network(photos: GraphInput, output: GraphOutput) -> bytes:
    """A convolution that takes photos and gives scores in these layouts and types."""
    weights = WEIGHTS[: output.outputs]
    if photos.dtype in ("uint8", "int8"):
        weights = weights / 100
    nodes, values = [], photos.name

    def after(operation: str, result: str, **attributes) -> str:
        nodes.append(helper.make_node(operation, [values], [result], **attributes))
        return result

    if photos.layout is Layout.NHWC:
        values = after("Transpose", "turned", perm=[0, 3, 1, 2])
    values = after("Cast", "numbers", to=1)
    nodes.append(helper.make_node("Conv", [values, "weights"], ["maps"], strides=[STRIDE] * 2))
    values = "maps"
    if output.gives is Gives.PROBABILITIES:
        alone = output.outputs == 1
        values = after("Sigmoid", "shares") if alone else after("Softmax", "shares", axis=1)
    if output.gives is Gives.CLASS_IDS:
        values = after("ArgMax", "best", axis=1, keepdims=1)
    if output.layout is Layout.NHWC:
        values = after("Transpose", "back", perm=[0, 2, 3, 1])
    after("Identity", output.name)
    kind, ids = helper.np_dtype_to_tensor_dtype(np.dtype(photos.dtype)), Gives.CLASS_IDS
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(photos.name, kind, [None] * 4)],
        [helper.make_tensor_value_info(output.name, 7 if output.gives is ids else 1, [None] * 4)],
        [numpy_helper.from_array(weights.astype(np.float32), "weights")],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, ir_version=8, opset_imports=opsets).SerializeToString()


PHOTOS = GraphInput("photo", "float32", Layout.NCHW, Channels.RGB, True, Resize.STRETCH)
SCORES = GraphOutput("scores", Layout.NCHW, Gives.LOGITS, 3, (0, 1, 2))


@pytest.fixture
def package_of(tmp_path):
    """A function that makes the package of a network."""

    def make(
        photos: GraphInput = PHOTOS, output: GraphOutput = SCORES, mean=MEAN, std=STD
    ) -> ModelPackage:
        content = network(photos, output)
        files = {"network.onnx": hashlib.sha256(content).hexdigest()}
        classes = [(f"class {n}", (n, n, n)) for n in range(max(2, len(output.channels)))]
        if output.outputs != 1:
            classes = classes[: len(output.channels)]
        description = ModelDescription(
            name="made",
            architecture="a convolution",
            width=1.0,
            input_height=HEIGHT,
            input_width=WIDTH,
            mean=mean,
            std=std,
            classes=ClassTable.of(classes),
            training={},
            metrics={},
            graph=Graph(Format.ONNX, "f32", files, photos, output),
        )
        return write_graph(tmp_path / hashlib.sha256(content).hexdigest(), description,
                           {"network.onnx": content})  # fmt: skip

    return make


def photos() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)


def given(package: ModelPackage, name: EngineName) -> np.ndarray:
    return load_engine(package, replace(F32, name=name)).predict(photos())


def convolved(values: np.ndarray, weights: np.ndarray = WEIGHTS) -> np.ndarray:
    """The scores of photos as the network takes them, by NumPy: `(N, h, w, classes)`."""
    n, height, width, _ = values.shape
    cells = values.reshape(n, height // STRIDE, STRIDE, width // STRIDE, STRIDE, 3)
    return np.einsum("nyixjc,kcij->nyxk", cells.astype(np.float64), weights)


NORMALISED = (photos() / 255 - MEAN) / STD


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("photo_layout", Layout)
@pytest.mark.parametrize("score_layout", Layout)
@pytest.mark.parametrize("channels", Channels)
def test_photos_are_normalised_and_turned(package_of, name, photo_layout, score_layout, channels):
    package = package_of(
        replace(PHOTOS, layout=photo_layout, channels=channels),
        replace(SCORES, layout=score_layout),
    )
    values = NORMALISED if channels is Channels.RGB else NORMALISED[..., ::-1]
    np.testing.assert_allclose(given(package, name), convolved(values), atol=2e-4)


@pytest.mark.parametrize("name", ENGINES)
def test_halves_are_taken_as_they_are(package_of, name):
    package = package_of(replace(PHOTOS, dtype="float16"))
    np.testing.assert_allclose(given(package, name), convolved(NORMALISED), atol=2e-2)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "mean", "std"),
    [
        ("uint8", 1.0, 0, 0.0, 1 / 255),
        ("int8", 1.0, 0, 128 / 255, 1 / 255),
        ("uint8", 1 / 64, 128, 0.5, 0.25),
        ("int8", 1 / 50, -3, 0.4, 0.2),
    ],
)
def test_integers_are_scaled_and_rounded(package_of, name, dtype, scale, zero_point, mean, std):
    taken = replace(PHOTOS, dtype=dtype, scale=scale, zero_point=zero_point)
    package = package_of(taken, mean=(mean,) * 3, std=(std,) * 3)
    limits = np.iinfo(dtype)
    exact = (photos() / 255 - mean) / std / scale + zero_point
    expected = convolved(np.clip(np.rint(exact), limits.min, limits.max), WEIGHTS / 100)
    # Halves may be rounded either way: a step of one in few of the numbers.
    np.testing.assert_allclose(given(package, name), expected, atol=0.05)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("channels", [(0, 1), (1, 2), (2, 0)])
@pytest.mark.parametrize("gives", [Gives.LOGITS, Gives.PROBABILITIES])
def test_classes_are_chosen_among_the_outputs(package_of, name, channels, gives):
    """Probabilities become logits: the softmax of the logarithms of all is what they were."""
    package = package_of(output=replace(SCORES, channels=channels, gives=gives))
    expected = convolved(NORMALISED)
    if gives is Gives.PROBABILITIES:
        shares = np.exp(expected) / np.exp(expected).sum(-1, keepdims=True)
        expected = np.log(np.maximum(shares, 1e-7))
    np.testing.assert_allclose(given(package, name), expected[..., list(channels)], atol=2e-3)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("gives", [Gives.LOGITS, Gives.PROBABILITIES])
def test_one_output_is_the_score_of_the_second_class(package_of, name, gives):
    package = package_of(output=replace(SCORES, outputs=1, channels=(0, 1), gives=gives))
    scores = given(package, name)
    assert scores.shape[3] == 2
    difference = scores[..., 1] - scores[..., 0]
    expected = np.clip(convolved(NORMALISED)[..., 0], -14, 14)
    inside = np.abs(expected) < 8  # Beyond, single precision has no more digits of 1 - p.
    np.testing.assert_allclose(difference[inside], expected[inside], atol=2e-2)
    assert (np.sign(difference[~inside]) == np.sign(expected[~inside])).all()


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("channels", [(0, 1, 2), (2, 0, 1)])
def test_class_ids_are_those_of_the_classes(package_of, name, layout, channels):
    package = package_of(
        output=GraphOutput("ids", layout, Gives.CLASS_IDS, 3, channels),
    )
    ids = given(package, name)
    assert ids.dtype == np.uint8 and ids.shape == (2, HEIGHT // STRIDE, WIDTH // STRIDE)
    best = convolved(NORMALISED).argmax(-1)
    assert (np.asarray(channels)[ids] == best).mean() > 0.99


@pytest.mark.parametrize("name", ENGINES)
def test_a_class_id_without_a_class_is_an_error(package_of, name):
    package = package_of(output=GraphOutput("ids", Layout.NCHW, Gives.CLASS_IDS, 3, (0, 2)))
    with pytest.raises(EngineError, match=r"class ids \[1\].* classes have \[0, 2\].*--classes"):
        given(package, name)


@pytest.mark.parametrize("name", [EngineName.TENSORFLOW, EngineName.LITERT])
def test_engines_that_do_not_run_a_format_say_which_do(package_of, name):
    with pytest.raises(EngineError, match="imported onnx network.*openvino or onnxruntime"):
        given(package_of(), name)
