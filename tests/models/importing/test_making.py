"""What only a trial on a photo tells of a network; and the package that is made of it."""

import tempfile
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from models.engines import load_engine
from models.graphs import Format, Gives, Resize
from models.importing.making import PHOTO, Imported, try_out
from models.importing.settling import Wishes, settle
from models.importing.sources import Fact, Facts, ModelImportError, Port, Source
from models.packages import load_package
from tests.onnx_models import CLASSES, segmenting

NAMES = ("Road", "Tree", "Sky")
SIZE = (128, 64)


def node(operation: str, *inputs: str, output: str = "given", **attributes):
    return helper.make_node(operation, list(inputs), [output], **attributes)


def tensor(name: str, *values: float):
    return numpy_helper.from_array(np.array(values, np.float32), name)


def softmax_in_parts() -> list:
    """What no reader takes for a softmax."""
    return [
        node("ReduceMax", "scores", output="most", axes=[1]),
        node("Sub", "scores", "most", output="lower"),
        node("Exp", "lower", output="powers"),
        node("ReduceSum", "powers", "axis", output="total"),
        node("Div", "powers", "total"),
    ]


AXIS = numpy_helper.from_array(np.array([1]), "axis")


def tried(
    *nodes,
    initializers=(),
    open_size: bool = True,
    shape: tuple[int | None, ...] = (None, CLASSES, None, None),
    dtype: str = "float32",
    **stated,
) -> Imported:
    """A network of `segmenting`, of which its file states only this."""
    name = nodes[-1].output[0] if nodes else "scores"
    kind = TensorProto.INT64 if dtype == "int64" else TensorProto.FLOAT
    dims = [size or f"axis{place}" for place, size in enumerate(shape)]
    content = segmenting(
        *nodes, output=name, dtype=kind, shape=dims, initializers=initializers
    ).SerializeToString()
    facts = {"class_names": NAMES, "input_size": SIZE} | stated
    sides = (None, None) if open_size else SIZE[::-1]
    source = Source(
        format=Format.ONNX,
        precision="f32",
        files={"network.onnx": content},
        inputs=(Port("photo", "float32", (None, 3, *sides)),),
        outputs=(Port(name, dtype, shape),),
        facts=Facts(**{key: Fact(value, "test") for key, value in facts.items()}),
    )
    return try_out(source, settle(source, Wishes(), "made"), Image.open(PHOTO))


def refusal(*arguments, **options) -> str:
    with pytest.raises(ModelImportError) as caught:
        tried(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message and tempfile.gettempdir() not in message
    return message


def test_a_network_that_runs_becomes_a_package(tmp_path):
    imported = tried()
    package = imported.write(tmp_path / "made", metrics={"miou": 0.5})
    assert package == load_package(tmp_path / "made")
    assert package.classes.names == NAMES and package.metrics == {"miou": 0.5}
    assert package.graph.input.open and package.graph.output.gives is Gives.LOGITS
    scores = load_engine(package).predict(np.zeros((1, 64, 128, 3), np.uint8))
    assert scores.shape == (1, 16, 32, CLASSES)


def test_probabilities_are_known_as_they_add_up_to_one():
    imported = tried(*softmax_in_parts(), initializers=[AXIS])
    assert imported.description.graph.output.gives is Gives.PROBABILITIES
    assert imported.understood.told["output"].value == "given: probabilities, NCHW"
    assert imported.understood.told["output"].source == "a trial: they add up to 1"


def test_one_probability_is_known_by_its_range():
    single = [
        node("Slice", "scores", "zero", "one", "axis", output="single"),
        node("Sigmoid", "single"),
    ]
    bounds = [numpy_helper.from_array(np.array([n]), name) for n, name in ((0, "zero"), (1, "one"))]
    shape, names = (None, 1, None, None), ("Other", "Road")
    of_sigmoid = tried(*single, initializers=[AXIS, *bounds], shape=shape, class_names=names)
    assert of_sigmoid.description.graph.output.gives is Gives.PROBABILITIES
    single[1] = node("Mul", "single", "ten")
    bounds.append(tensor("ten", 10))
    of_logit = tried(*single, initializers=[AXIS, *bounds], shape=shape, class_names=names)
    assert of_logit.description.graph.output.gives is Gives.LOGITS


def test_scores_from_0_to_1_that_do_not_add_up_are_logits():
    imported = tried(node("Sigmoid", "scores"))
    assert imported.description.graph.output.gives is Gives.LOGITS


def of_one_size() -> dict:
    values = np.zeros((1, CLASSES, SIZE[1] // 4, SIZE[0] // 4), np.float32)
    return {"initializers": [numpy_helper.from_array(values, "places")]}


def test_a_network_that_fails_at_other_sizes_gets_the_one_at_which_it_runs():
    imported = tried(node("Add", "scores", "places"), **of_one_size())
    assert not imported.description.graph.input.open
    assert (imported.description.input_width, imported.description.input_height) == SIZE
    told = imported.understood.told["size"]
    assert (told.value, told.source) == ("128x64", "a trial: other sizes do not run")


def test_such_a_network_cannot_keep_the_ratio_of_photos(tmp_path):
    keeping = {"resize": Resize.KEEP_ASPECT}
    imported = tried(node("Add", "scores", "places"), **of_one_size(), **keeping)
    assert imported.write(tmp_path).graph.input.resize is Resize.STRETCH
    assert imported.understood.told["resize"].value == "stretch"
    assert tried(**keeping).description.graph.input.resize is Resize.KEEP_ASPECT


def test_a_network_that_needs_multiples_of_64_gets_one_size():
    """Its nominal shape and the turned one would run; shapes of other photos would not."""
    nodes = [
        node("AveragePool", "photo", output="pooled", kernel_shape=[64, 64], strides=[64, 64]),
        node("Resize", "pooled", "", "scales", output="up", mode="nearest"),
        node("Add", "scores", "up"),
    ]
    imported = tried(*nodes, initializers=[tensor("scales", 1, 1, 16, 16)])
    assert not imported.description.graph.input.open


def test_a_network_that_fails_is_refused_with_the_size_of_the_photo():
    message = refusal(node("Add", "scores", "places"), **of_one_size(), input_size=(256, 256))
    assert message.startswith("the network fails on a photo of 256x256: ")
    assert message.endswith("; if it takes other sizes, give --input-size")


def test_numbers_that_are_not_finite_are_refused():
    message = refusal(node("Sqrt", "scores"))
    assert "gives NaN or infinity" in message and "--mean and --std" in message


def test_another_number_of_scores_than_of_classes_is_refused():
    message = refusal(shape=(None, None, None, None), class_names=(*NAMES, "Pole", "Person"))
    assert "gives 3 scores for each pixel, and there are 5 classes" in message
    assert "--classes" in message


def test_class_ids_without_a_class_are_refused():
    argmax = node("ArgMax", "scores", axis=1, keepdims=0)
    ids = {"shape": (None, None, None), "dtype": "int64"}
    given = tried(argmax, **ids).description.graph.output
    assert (given.gives, given.channels) == (Gives.CLASS_IDS, (0, 1, 2))
    message = refusal(argmax, **ids, class_names=("Road", "Tree"))
    assert "gives the class ids [" in message and "--background" in message


def test_fractions_are_no_class_ids():
    """Scores of one class without an axis for it look like class ids."""
    message = refusal(node("ReduceMean", "scores", axes=[1], keepdims=0), shape=(None, None, None))
    assert "gives the class ids [" in message


def test_what_a_package_cannot_hold_is_refused_without_a_package():
    message = refusal(class_names=("Road", "Tree", "Sky" * 100))
    assert message.startswith("found the classes.name 'Sky") and "1 to 200 bytes" in message
    assert refusal(name="").startswith("found the name ''")


def test_scores_come_in_the_order_of_channels_that_a_package_states(tmp_path):
    imported = tried()
    changed = replace(imported.understood.description.graph.output, channels=(2, 1, 0))
    graph = replace(imported.description.graph, output=changed)
    photo = np.asarray(Image.open(PHOTO).resize(SIZE))[None]
    forward = load_engine(imported.write(tmp_path / "a")).predict(photo)
    backward = load_engine(imported.write(tmp_path / "b", graph=graph)).predict(photo)
    np.testing.assert_allclose(forward, backward[..., ::-1], atol=1e-5)
