"""ONNX Runtime: logits and masks of imported networks.

Without a GPU, what runs on one is tested with the CPU as its device.
"""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.classes import ClassTable
from models.engines import (
    EngineError,
    EngineName,
    EngineOptions,
    GpuPolicy,
    MaskEngine,
    Precision,
    devices,
    load_engine,
    onnx_runtime,
)
from models.engines.graph_arrays import LEAST_PROBABILITY
from models.engines.onnx_runtime import ON_CPU, OnnxRuntimeEngine, OnnxRuntimeMaskEngine
from models.engines.openvino import OpenVinoEngine
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
from models.inputs import normalise
from models.packages import ModelDescription, ModelPackage
from models.packages.writing import write_graph
from models.upsampling import logits_to_mask
from tests.made_packages import assert_same_masks, photos, warnings_in
from tests.onnx_models import CLASSES, kernel, segmenting

HEIGHT, WIDTH = 32, 64
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
FILE = "network.onnx"
PROVIDERS = onnxruntime.get_available_providers()

INPUT = GraphInput("photo", "float32", Layout.NCHW, Channels.RGB, True, Resize.STRETCH)
OUTPUT = GraphOutput("scores", Layout.NCHW, Gives.LOGITS, CLASSES, (0, 1, 2))


@pytest.fixture
def made(tmp_path):
    """Writes packages of ONNX networks; fields of their input and output may be replaced."""

    def make(
        model: onnx.ModelProto, taken: dict | None = None, given: dict | None = None, **changes
    ) -> ModelPackage:
        output = replace(OUTPUT, **(given or {}))
        graph = Graph(Format.ONNX, "f32", {}, replace(INPUT, **(taken or {})), output)
        graph = replace(graph, **changes)
        content = {FILE: model.SerializeToString()}
        classes = ClassTable.of(
            [(f"Class {at}", (at, 0, 0)) for at in range(max(2, len(output.channels)))]
        )
        description = ModelDescription(
            name="made",
            architecture="none",
            width=1.0,
            input_height=HEIGHT,
            input_width=WIDTH,
            mean=MEAN,
            std=STD,
            classes=classes,
            training={},
            metrics={},
            graph=replace(graph, files={name: digest(data) for name, data in content.items()}),
        )
        return write_graph(tmp_path / "package", description, content)

    return make


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def on_cpu(package: ModelPackage, **options) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(package, ON_CPU, EngineOptions(threads=2, **options))


def of_gpus(
    engine: type, package: ModelPackage, **options
) -> OnnxRuntimeEngine | OnnxRuntimeMaskEngine:
    """An engine on this machine's GPU; without one, with the CPU as if it were one."""
    chosen = EngineOptions(precision=Precision(package.graph.precision), **options)
    has_gpu = devices.cuda_has_devices() and onnx_runtime.CUDA in PROVIDERS
    device = onnx_runtime.gpu(package, chosen) if has_gpu else replace(ON_CPU, is_gpu=True)
    return engine(package, device, chosen)


in_batches = partial(of_gpus, OnnxRuntimeEngine)
as_on_gpu = partial(of_gpus, OnnxRuntimeMaskEngine, batch_size=4)
ENGINES = pytest.mark.parametrize("engine_for", [on_cpu, in_batches, as_on_gpu])


def scores(images: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """What the network gives for normalised photos: float32 `(N, h / 4, w / 4, classes)`."""
    weights = kernel() if weights is None else weights
    size = weights.shape[2]
    count, height, width, _ = images.shape
    blocks = images.reshape(count, height // size, size, width // size, size, 3)
    return np.einsum("nyixjc,kcij->nyxk", blocks, weights, dtype=np.float32)


def expected_logits(images: np.ndarray) -> np.ndarray:
    return scores(normalise(images, MEAN, STD))


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@ENGINES
class TestLogits:
    def test_they_are_those_of_the_network_on_normalised_photos(self, made, engine_for):
        images = photos(3)
        assert_close(engine_for(made(segmenting())).predict(images), expected_logits(images))

    def test_photos_may_have_any_shape_if_the_network_is_open(self, made, engine_for):
        engine = engine_for(made(segmenting()))
        for height, width in ((32, 32), (64, 32), (32, 96)):
            images = photos(2, height, width)
            assert_close(engine.predict(images), expected_logits(images))

    def test_a_network_of_one_photo_gets_them_one_by_one(self, made, engine_for):
        images = photos(3)
        engine = engine_for(made(segmenting(photo=(1, 3, "H", "W"))))
        assert_close(engine.predict(images), expected_logits(images))

    def test_channels_and_axes_may_be_in_the_other_order(self, made, engine_for):
        turned = helper.make_node("Transpose", ["turned"], ["photo"], perm=[0, 3, 1, 2])
        back = helper.make_node("Transpose", ["scores"], ["out"], perm=[0, 2, 3, 1])
        model = segmenting(back, output="out", shape=("N", "h", "w", CLASSES))
        model.graph.input[0].CopyFrom(
            helper.make_tensor_value_info("turned", TensorProto.FLOAT, ("N", "H", "W", 3))
        )
        model.graph.node.insert(0, turned)
        package = made(
            model,
            {"name": "turned", "layout": Layout.NHWC, "channels": Channels.BGR},
            {"name": "out", "layout": Layout.NHWC},
        )
        images = photos(2)
        expected = scores(normalise(images, MEAN, STD)[..., ::-1])
        assert_close(engine_for(package).predict(images), expected)

    def test_half_precision_goes_in_and_comes_out(self, made, engine_for):
        model = segmenting(weights=kernel().astype(np.float16), dtype=TensorProto.FLOAT16)
        package = made(model, {"dtype": "float16"}, precision="f16")
        engine, images = engine_for(package), photos(2)
        assert engine.precision is Precision.F16
        assert_close(engine.predict(images), expected_logits(images), 0.05)

    def test_quantised_numbers_go_in_and_come_out(self, made, engine_for):
        """What goes in are bytes; what comes out stands for `(value - 100) * 0.5`."""
        model = segmenting(
            helper.make_node("QuantizeLinear", ["scores", "step", "zero"], ["out"]),
            output="out",
            dtype=TensorProto.UINT8,
            initializers=[
                numpy_helper.from_array(np.float32(0.5), "step"),
                numpy_helper.from_array(np.uint8(100), "zero"),
            ],
        )
        cast = helper.make_node("Cast", ["bytes"], ["photo"], to=TensorProto.FLOAT)
        model.graph.node.insert(0, cast)
        model.graph.input[0].CopyFrom(
            helper.make_tensor_value_info("bytes", TensorProto.UINT8, ("N", 3, "H", "W"))
        )
        taken = {"name": "bytes", "dtype": "uint8", "scale": 0.02, "zero_point": 128}
        package = made(model, taken, {"name": "out", "scale": 0.5, "zero_point": 100})
        images = photos(2)
        fed = np.rint(normalise(images, MEAN, STD) / 0.02 + 128).clip(0, 255)
        expected = ((np.rint(scores(fed) / 0.5) + 100).clip(0, 255) - 100) * 0.5
        found = engine_for(package).predict(images)
        assert (np.abs(found - expected) > 1).mean() < 0.01

    def test_other_channels_are_left_out(self, made, engine_for):
        package = made(segmenting(), given={"channels": (2, 0)})
        images = photos(2)
        assert_close(engine_for(package).predict(images), expected_logits(images)[..., [2, 0]])

    def test_probabilities_become_their_logarithm(self, made, engine_for):
        softmax = helper.make_node("Softmax", ["scores"], ["out"], axis=1)
        given = {"name": "out", "gives": Gives.PROBABILITIES}
        engine = engine_for(made(segmenting(softmax, output="out"), given=given))
        images = photos(2)
        powers = np.exp(expected_logits(images).astype(np.float64))
        shares = powers / powers.sum(axis=-1, keepdims=True)
        expected = np.log(np.maximum(shares, LEAST_PROBABILITY))
        assert_close(engine.predict(images), expected, 1e-3)

    @pytest.mark.parametrize("gives", [Gives.LOGITS, Gives.PROBABILITIES])
    def test_a_single_channel_tells_two_classes_apart(self, made, engine_for, gives):
        weights = kernel(1) / 20
        sigmoid = helper.make_node("Sigmoid", ["scores"], ["out"])
        after = [sigmoid] if gives is Gives.PROBABILITIES else []
        name = "out" if after else "scores"
        shape = ("N", 1, "h", "w")
        model = segmenting(*after, output=name, weights=weights, shape=shape)
        given = {"name": name, "gives": gives, "outputs": 1, "channels": (0, 1)}
        engine, images = engine_for(made(model, given=given)), photos(2)
        logit = scores(normalise(images, MEAN, STD), weights)
        found = engine.predict(images)
        assert found.shape == (*logit.shape[:3], 2)
        assert_close(found[..., 1:] - found[..., :1], logit, 1e-3)

    def test_many_threads_get_the_answers_that_one_gets(self, made, engine_for):
        engine = engine_for(made(segmenting()))
        batches = [photos(n, h, w) for n in (1, 2, 3) for h, w in ((32, 32), (32, 64), (64, 32))]
        with ThreadPoolExecutor(4) as pool:
            for found, images in zip(
                pool.map(engine.predict, batches * 3), batches * 3, strict=True
            ):
                assert_close(found, expected_logits(images))


class TestClassIds:
    def make(self, made, **given):
        best = helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0)
        model = segmenting(best, output="best", dtype=TensorProto.INT64, shape=("N", "h", "w"))
        return made(model, given={"name": "best", "gives": Gives.CLASS_IDS, **given})

    @pytest.mark.parametrize("engine_for", [on_cpu, in_batches])
    def test_they_are_those_of_the_network(self, made, engine_for):
        images = photos(2)
        ids = engine_for(self.make(made)).predict(images)
        assert ids.dtype == np.uint8
        assert np.array_equal(ids, expected_logits(images).argmax(axis=-1))

    def test_one_that_no_class_has_is_an_error(self, made):
        with pytest.raises(EngineError, match="the network gives the class ids"):
            on_cpu(self.make(made, channels=(0, 1))).predict(photos(2))


SIZES = [(1, 1), (24, 48), (33, 65), (300, 500), (7, 1031), (1031, 9)]


class TestMasks:
    def test_they_are_those_of_the_logits_at_any_sizes(self, made):
        engine, images = as_on_gpu(made(segmenting())), photos(len(SIZES))
        assert isinstance(engine, MaskEngine)
        masks = engine.predict_masks(images, SIZES)
        assert_same_masks(masks, engine.predict(images), SIZES, differing=2)

    def test_a_network_of_one_photo_gets_them_one_by_one(self, made):
        engine = as_on_gpu(made(segmenting(photo=(1, 3, "H", "W"))), batch_size=None)
        assert engine.batch_size == 1
        images = photos(len(SIZES))
        masks = engine.predict_masks(images, SIZES)
        assert_same_masks(masks, engine.predict(images), SIZES, differing=2)

    def test_margins_are_left_out_on_a_circle(self, made):
        engine, images, margin = as_on_gpu(made(segmenting())), photos(3, 64, 192), 32
        sizes = [(33, 65), (300, 1029), (9, 9)]
        logits = engine.predict(images)
        for found, of_photo, size in zip(
            engine.predict_masks(images, sizes, margin), logits, sizes, strict=True
        ):
            expected, counts = logits_to_mask(of_photo, *size, margin // 4)
            assert (found[0] != expected).sum() <= 2
            assert found[1].sum() == counts.sum() == size[0] * size[1]

    def test_photos_beyond_the_sizes_are_padding(self, made):
        engine, images = as_on_gpu(made(segmenting())), photos(4)
        alone = engine.predict_masks(images, [(50, 60)] * 4)
        for given in (0, 1, 3):
            masks = engine.predict_masks(images, [(50, 60)] * given)
            assert len(masks) == given
            for (mask, counts, _), (expected, expected_counts, _) in zip(
                masks, alone, strict=False
            ):
                assert np.array_equal(mask, expected)
                assert np.array_equal(counts, expected_counts)

    def test_bands_of_rows_make_the_same_masks(self, made, monkeypatch):
        engine, images = as_on_gpu(made(segmenting())), photos(2)
        whole = engine.predict_masks(images, [(300, 200)] * 2)
        monkeypatch.setattr(onnx_runtime, "BAND_VALUES", 7 * CLASSES * 200)
        for (mask, counts, _), (expected, known, _) in zip(
            engine.predict_masks(images, [(300, 200)] * 2), whole, strict=True
        ):
            assert (mask != expected).sum() <= 1
            assert np.abs(counts - known).sum() <= 2

    def test_ties_go_to_the_lower_class(self, made):
        engine = as_on_gpu(made(segmenting(weights=kernel(scale=0))))
        ((mask, counts, _),) = engine.predict_masks(photos(1), [(40, 50)])
        assert not mask.any() and counts.tolist() == [2000, 0, 0]

    def test_a_photo_whose_logits_are_not_finite_has_none(self, made):
        """A photo that is black all over divides by 0."""
        model = segmenting(
            helper.make_node("ReduceMax", ["photo"], ["most"], axes=[1, 2, 3]),
            helper.make_node("Div", ["scores", "most"], ["out"]),
            output="out",
        )
        package = replace(made(model, given={"name": "out"}), mean=(0.0, 0.0, 0.0))
        images = photos(3)
        images[1] = 0
        first, second, third = as_on_gpu(package).predict_masks(images, [(9, 9)] * 3)
        assert second is None
        assert first[1].sum() == third[1].sum() == 81


def hungry(most: int) -> onnx.ModelProto:
    """A network that takes more memory than there is for more than so many photos."""
    nodes = [
        helper.make_node("Shape", ["photo"], ["count"], start=0, end=1),
        helper.make_node("Greater", ["count", "most"], ["many"]),
        helper.make_node("Cast", ["many"], ["times"], to=TensorProto.INT64),
        helper.make_node("Mul", ["times", "lots"], ["elements"]),
        helper.make_node("ConstantOfShape", ["elements"], ["nothing"]),
        helper.make_node("ReduceSum", ["nothing"], ["zero"], keepdims=0),
        helper.make_node("Add", ["scores", "zero"], ["out"]),
    ]
    numbers = {"most": [most], "lots": [1 << 44]}
    constants = [numpy_helper.from_array(np.array(v), name) for name, v in numbers.items()]
    return segmenting(*nodes, output="out", initializers=constants)


class TestMemory:
    def test_batches_are_halved_until_they_fit_and_stay_so(self, made, caplog):
        engine = as_on_gpu(made(hungry(2), given={"name": "out"}), batch_size=None)
        assert engine.batch_size == 2
        images = photos(7)
        assert_close(engine.predict(images), expected_logits(images))
        sizes = [(20 + n, 30 + n) for n in range(6)]
        masks = engine.predict_masks(images, sizes)
        assert_same_masks(masks, engine.predict(images), sizes, differing=1)
        assert warnings_in(caplog) == ["Out of memory with a batch of 16 photos: reduced to 2"]

    @ENGINES
    def test_one_photo_that_does_not_fit_is_an_error_of_one_line(self, made, engine_for):
        with pytest.raises(EngineError, match="out of memory with one photo") as caught:
            engine_for(made(hungry(0), given={"name": "out"}))
        assert "\n" not in str(caught.value)


class TestRefusals:
    def told(self, package: ModelPackage, **options) -> str:
        chosen = EngineOptions(**{"name": EngineName.ONNXRUNTIME, **options})
        with pytest.raises(EngineError) as caught:
            load_engine(package, chosen)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_an_operation_that_it_does_not_know(self, made):
        unknown = helper.make_node("Run", ["scores"], ["out"], domain="elsewhere")
        model = segmenting(unknown, output="out")
        model.opset_import.append(helper.make_opsetid("elsewhere", 1))
        said = self.told(made(model, given={"name": "out"}))
        assert said.startswith("ONNX Runtime cannot run made: ") and "elsewhere" in said

    def test_ports_that_are_not_the_packages(self, made):
        assert "takes photo and gives scores, expected photo and logits" in self.told(
            made(segmenting(), given={"name": "logits"})
        )

    def test_a_fixed_batch_of_many_photos(self, made):
        assert "takes batches of 4 photos" in self.told(made(segmenting(photo=(4, 3, "H", "W"))))

    def test_a_shape_that_the_network_does_not_take(self, made):
        said = self.told(made(segmenting(photo=(1, 3, 8, 8))))
        assert said.startswith("ONNX Runtime cannot run made: ")

    def test_another_precision_than_that_of_the_file(self, made):
        said = self.told(made(segmenting()), precision=Precision.BF16)
        assert "computes in f32, not in bf16" in said

    def test_a_gpu_that_it_cannot_use(self, made, monkeypatch):
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [onnx_runtime.CPU])
        said = self.told(made(segmenting()), gpu=GpuPolicy.REQUIRED)
        assert said.startswith("a GPU is required: ONNX Runtime ")
        assert "CPUExecutionProvider, expected CUDAExecutionProvider: pip install" in said
        said = self.told(made(segmenting()), gpu=GpuPolicy.REQUIRED, precision=Precision.F16)
        assert "expected TensorrtExecutionProvider and CUDAExecutionProvider" in said

    @pytest.mark.skipif(onnx_runtime.CUDA in PROVIDERS, reason="it is onnxruntime-gpu")
    @pytest.mark.filterwarnings("ignore:Specified provider")
    @pytest.mark.parametrize(
        ("precision", "provider", "package"),
        [
            (Precision.F32, "CUDAExecutionProvider", "onnxruntime-gpu[cuda,cudnn]"),
            (Precision.F16, "TensorrtExecutionProvider", "tensorrt"),
        ],
    )
    def test_a_gpu_whose_libraries_are_missing(
        self, made, monkeypatch, precision, provider, package
    ):
        found = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: found)
        said = self.told(made(segmenting()), gpu=GpuPolicy.REQUIRED, precision=precision)
        assert f"cannot load {provider}" in said and f"pip install '{package}'" in said

    def test_a_gpu_that_is_only_wanted_is_done_without(self, made, monkeypatch, caplog):
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [onnx_runtime.CPU])
        options = EngineOptions(name=EngineName.ONNXRUNTIME, gpu=GpuPolicy.WANTED)
        assert isinstance(load_engine(made(segmenting()), options), OnnxRuntimeEngine)
        (said,) = warnings_in(caplog)
        assert said.startswith("No GPU is used: ") and "onnxruntime-gpu" in said

    def test_a_missing_library(self, made, monkeypatch):
        for name in ("onnxruntime", "onnx"):
            with monkeypatch.context() as without:
                without.setitem(sys.modules, name, None)
                assert "pip install 'citymask[onnx]'" in self.told(made(segmenting()))


class TestChoice:
    def test_openvino_runs_onnx_on_a_cpu(self, made):
        engine, images = load_engine(made(segmenting())), photos(2)
        assert isinstance(engine, OpenVinoEngine)
        assert_close(engine.predict(images), expected_logits(images))

    def test_onnx_runtime_runs_what_openvino_does_not_know(self, made):
        """OpenVINO has no regular expressions."""
        text = numpy_helper.from_array(np.array(["a"], object), "text")
        model = segmenting(
            helper.make_node("RegexFullMatch", ["text"], ["match"], pattern="b"),
            helper.make_node("Cast", ["match"], ["zero"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["scores", "zero"], ["out"]),
            output="out",
            initializers=[text],
        )
        model.opset_import[0].version, model.ir_version = 20, 9
        engine, images = load_engine(made(model, given={"name": "out"})), photos(2)
        assert isinstance(engine, OnnxRuntimeEngine)
        assert_close(engine.predict(images), expected_logits(images))


@pytest.mark.parametrize("count", [1, "N"])
def test_a_grid_of_logits_comes_with_masks(made, count):
    engine = as_on_gpu(made(segmenting(photo=(count, 3, "H", "W"))), batch_size=None)
    images = photos(2, 256, 512)
    masks = engine.predict_masks(images, SIZES[:2])
    for found, logits in zip(masks, engine.predict(images), strict=True):
        assert found.grid.shape == (32, 64, CLASSES)
        np.testing.assert_array_equal(found.grid, logits[::2, ::2])
