"""LiteRT runs imported TFLite networks."""

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from models.classes import ClassTable
from models.engines import EngineError, EngineName, EngineOptions, Precision, load_engine
from models.engines.litert import LiteRtEngine, load
from models.engines.openvino import OpenVinoEngine
from models.graphs import (
    Channels,
    Format,
    Graph,
    GraphInput,
    GraphOutput,
    Layout,
    Resize,
)
from models.importing import tflite_files
from models.packages import ModelDescription, ModelPackage, PackageError, load_package
from models.packages.writing import write_graph
from tests import tflite_models
from tests.conftest import ROOT
from tests.tflite_models import CLASSES, OPEN, STRIDE, changed, converted

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
TWO_THREADS = EngineOptions(threads=2)
PUBLISHED = (
    "deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite",
    "deeplabv3_mnv2_pascal_quant.tflite",
)


@pytest.fixture
def package_of(tmp_path):
    """A function that makes a package of a TFLite file, as what the file states suggests."""

    def make(content: bytes, mean=MEAN, std=STD, **of_output) -> ModelPackage:
        (tmp_path / "network.tflite").write_bytes(content)
        source = tflite_files.read(tmp_path / "network.tflite")
        (taken,), (given,) = source.inputs, source.outputs
        classes = source.facts.outputs.value if source.facts.outputs else given.shape[-1]
        _, height, width, _ = taken.shape
        graph = Graph(
            format=Format.TFLITE,
            precision=source.precision,
            files={"network.tflite": hashlib.sha256(content).hexdigest()},
            input=GraphInput(
                taken.name, taken.dtype, Layout.NHWC, Channels.RGB, height is None,
                Resize.STRETCH, taken.scale or 1.0, taken.zero_point,
            ),
            output=GraphOutput(
                given.name, Layout.NHWC, source.facts.gives.value, classes,
                tuple(range(classes)), given.scale or 1.0, given.zero_point,
            ),
        )  # fmt: skip
        description = ModelDescription(
            name="made",
            architecture="any",
            width=1.0,
            input_height=height or 32,
            input_width=width or 64,
            mean=source.facts.mean.value if source.facts.mean else mean,
            std=source.facts.std.value if source.facts.std else std,
            classes=ClassTable.of([(f"class {n}", (n, n, n)) for n in range(classes)]),
            training={},
            metrics={},
            graph=replace(graph, output=replace(graph.output, **of_output)),
        )
        return write_graph(tmp_path / "package", description, {"network.tflite": content})

    return make


def photos(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)


def normalised(images: np.ndarray) -> tf.Tensor:
    return tf.constant((images / 255 - MEAN) / STD, tf.float32)


@pytest.mark.parametrize("shape", [(32, 64), (64, 32), (96, 96)])
def test_logits_are_those_of_the_network_for_any_size(package_of, shape):
    engine = load(package_of(converted(shape=OPEN)), TWO_THREADS)
    assert (engine.precision, engine.streams, engine.batch_size) == (Precision.F32, 2, 1)
    images = photos(3, *shape)
    logits = engine.predict(images)
    assert logits.dtype == np.float32
    assert logits.shape == (3, shape[0] // STRIDE, shape[1] // STRIDE, CLASSES)
    expected = tflite_models.scores(normalised(images)).numpy()
    assert np.abs(logits - expected).max() < 1e-4


def test_sizes_may_change_from_photo_to_photo(package_of):
    engine = load(package_of(converted(shape=OPEN)), TWO_THREADS)
    several = [photos(1, *shape) for shape in ((32, 64), (64, 64), (32, 64), (64, 32))]
    for images in several:
        expected = tflite_models.scores(normalised(images)).numpy()
        assert np.abs(engine.predict(images) - expected).max() < 1e-4


def test_concurrent_calls_do_not_mix_photos(package_of):
    engine = load(package_of(converted(shape=OPEN)), TWO_THREADS)
    images = [photos(seed, 32, 32 * (1 + seed % 3))[:1] for seed in range(1, 60)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(engine.predict, images))
    for image, logits in zip(images, found, strict=True):
        assert np.array_equal(logits, engine.predict(image))


def test_probabilities_become_logits_with_the_same_softmax(package_of):
    engine = load(package_of(converted(tflite_models.probabilities)), TWO_THREADS)
    images = photos(1, 32, 48)
    expected = tflite_models.probabilities(normalised(images)).numpy()
    assert np.abs(tf.nn.softmax(engine.predict(images)).numpy() - expected).max() < 1e-4


def test_class_ids_are_bytes(package_of):
    engine = load(package_of(converted(tflite_models.class_ids)), TWO_THREADS)
    images = photos(2, 32, 48)
    found = engine.predict(images)
    assert (found.dtype, found.shape) == (np.uint8, (2, 16, 24))
    expected = tflite_models.class_ids(normalised(images)).numpy()
    assert (found == expected).mean() > 0.999


@pytest.mark.parametrize("dtype", [tf.uint8, tf.int8])
def test_quantised_networks_get_bytes_and_give_logits(package_of, dtype):
    engine = load(package_of(tflite_models.quantised(dtype=dtype)), TWO_THREADS)
    assert engine.precision is Precision.INT8
    images = photos(1, 32, 48)
    logits = engine.predict(images)
    expected = tflite_models.scores(tf.constant(images / 255, tf.float32)).numpy()
    assert np.abs(logits - expected).max() < 0.03 * np.ptp(expected)
    assert (logits.argmax(-1) == expected.argmax(-1)).mean() > 0.95


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_networks_give_what_a_plain_interpreter_gives(shared_data, package_of, name):
    file = shared_data / "models" / name
    images = photos(1, 513, 513)
    plain = Interpreter(str(file), num_threads=1)
    plain.allocate_tensors()
    plain.set_tensor(plain.get_input_details()[0]["index"], images)
    plain.invoke()
    expected = plain.get_tensor(plain.get_output_details()[0]["index"])
    engine = load(package_of(file.read_bytes()), TWO_THREADS)
    assert np.array_equal(engine.predict(images), expected)


class TestChoice:
    def test_it_runs_what_openvino_does_not_read(self, package_of):
        engine = load_engine(package_of(converted(tflite_models.with_context)), TWO_THREADS)
        assert isinstance(engine, LiteRtEngine)
        images = photos(1, 32, 48)
        expected = tflite_models.with_context(normalised(images)).numpy()
        assert np.abs(engine.predict(images) - expected).max() < 1e-4

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_it_runs_networks_with_weights_in_uint8(self, shared_data, package_of, name):
        package = package_of((shared_data / "models" / name).read_bytes())
        assert isinstance(load_engine(package, TWO_THREADS), LiteRtEngine)

    def test_openvino_runs_these_where_litert_is_missing(
        self, shared_data, package_of, monkeypatch
    ):
        package = package_of((shared_data / "models" / PUBLISHED[1]).read_bytes())
        monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
        assert isinstance(load_engine(package, TWO_THREADS), OpenVinoEngine)

    @pytest.mark.parametrize("convert", [converted, tflite_models.quantised])
    def test_openvino_runs_all_others(self, package_of, convert):
        assert isinstance(load_engine(package_of(convert()), TWO_THREADS), OpenVinoEngine)

    def test_openvino_is_not_replaced_if_it_is_asked_for(self, package_of):
        package = package_of(converted(tflite_models.with_context))
        with pytest.raises(EngineError, match="OpenVINO cannot run made: "):
            load_engine(package, replace(TWO_THREADS, name=EngineName.OPENVINO))

    def test_both_give_the_same_logits(self, package_of):
        package = package_of(converted(shape=OPEN))
        images = photos(1, 32, 64)
        options = EngineOptions(EngineName.OPENVINO, Precision.F32, threads=1)
        openvino = load_engine(package, options).predict(images)
        litert = load(package, options).predict(images)
        assert np.abs(litert - openvino).max() < 1e-4


def test_without_the_extra_the_error_names_it(package_of, monkeypatch):
    package = package_of(converted())
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(EngineError, match=r"pip install 'citymask\[litert\]'"):
        load(package)


def test_another_precision_than_that_of_the_network_is_refused(package_of):
    package = package_of(converted())
    assert load(package, EngineOptions(precision=Precision.F32)).precision is Precision.F32
    with pytest.raises(EngineError, match="computes in f32, not in bf16"):
        load(package, EngineOptions(precision=Precision.BF16))


def test_a_trained_network_is_refused(tiny_model):
    with pytest.raises(EngineError, match="tiny is no TFLite network"):
        load(load_package(tiny_model))


def refusal(package: ModelPackage, shape: tuple[int, int] | None = None) -> str:
    with pytest.raises(EngineError) as error:
        engine = load(package, TWO_THREADS)
        if shape:
            engine.predict(photos(1, *shape))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_version_of_an_operation_that_it_does_not_know_is_told_in_one_line(package_of):
    def change(model):
        model.operatorCodes[0].version = 99

    reason = refusal(package_of(changed(converted(), change)))
    assert "LiteRT does not run made with an input of 1x32x48x3" in reason
    assert "version '99'" in reason


def test_another_size_than_the_fixed_one_is_told_in_one_line(package_of):
    reason = refusal(package_of(converted()), (64, 64))
    assert "LiteRT does not run made with an input of 1x64x64x3" in reason


def test_class_ids_that_no_class_has_are_told(package_of):
    package = package_of(converted(tflite_models.class_ids))
    output = replace(package.graph.output, channels=(0,))
    few = replace(package, graph=replace(package.graph, output=output))
    assert "the network gives the class ids" in refusal(few, (32, 48))


@pytest.mark.parametrize("engine", [EngineName.LITERT, EngineName.OPENVINO])
def test_a_damaged_network_never_reaches_a_library(package_of, engine):
    package = package_of(converted())

    def change(model):
        model.subgraphs[0].tensors[0].shape = [1 << 30, 1 << 30]

    hostile = changed(converted(), change)
    (package.path / "network.tflite").write_bytes(hostile)
    described = json.loads((package.path / "model.json").read_text())
    described["graph"]["files"] = {"network.tflite": hashlib.sha256(hostile).hexdigest()}
    (package.path / "model.json").write_text(json.dumps(described))
    with pytest.raises(PackageError, match="network.tflite: tensor 'serving_default_photos:0' of"):
        load_engine(load_package(package.path), EngineOptions(engine))


def test_nothing_is_printed_while_it_is_loaded(package_of):
    package = package_of(converted())
    program = (
        "import sys; from models.engines.litert import load; from models.packages import "
        "load_package; load(load_package(sys.argv[1])); print('loaded')"
    )
    command = [sys.executable, "-c", program, str(package.path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("loaded\n", "")
