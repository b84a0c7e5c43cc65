"""Engines: equal masks on every device, batches that fit, and clear messages without a GPU.

On a machine without a GPU, the engine for GPUs runs on the CPU.
"""

import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager.context import context

from models.classes import ClassTable
from models.engines import (
    EngineError,
    EngineName,
    EngineOptions,
    GpuPolicy,
    MaskEngine,
    Precision,
    conversion,
    load_engine,
    tiles,
)
from models.engines.batches import MOST_ON_GPU, fitting
from models.engines.devices import device_memory
from models.engines.keras_backends import KerasEngine
from models.engines.openvino import OpenVinoEngine, load
from models.engines.tensorflow_cpu import TensorFlowEngine
from models.engines.tensorflow_gpu import TensorFlowGpuEngine
from models.engines.tiles import TILE_WIDTH
from models.inputs import normalise
from models.packages import ModelPackage, load_package
from models.upsampling import logits_to_mask
from tests.jax_process import on_jax

CPU = "/device:CPU:0"
HEIGHT, WIDTH, STRIDE, CLASSES = 32, 64, 4, 3
MORE_THAN_ANY_MACHINE_HAS = 1 << 45


def tensorflow(package: ModelPackage, batch_size: int = 4) -> TensorFlowEngine:
    return TensorFlowEngine(package, EngineOptions(batch_size=batch_size))


def keras_engine(package: ModelPackage, batch_size: int = 4) -> KerasEngine:
    return KerasEngine(package, EngineOptions(batch_size=batch_size))


def openvino(
    package: ModelPackage, batch_size: int = 4, precision: Precision = Precision.F32
) -> OpenVinoEngine:
    return load(package, EngineOptions(precision=precision, batch_size=batch_size))


gpu_on_cpu = partial(
    TensorFlowGpuEngine, device=CPU, precision=Precision.F32, jit_compile=False, batch_size=4
)
OF_TENSORFLOW = [tensorflow, keras_engine, gpu_on_cpu]
ENGINES = [*OF_TENSORFLOW, openvino]

needs_gpu = pytest.mark.skipif(
    not tf.config.list_physical_devices("GPU"), reason="TensorFlow sees no GPU"
)
needs_no_gpu = pytest.mark.skipif(
    bool(tf.config.list_physical_devices("GPU")), reason="TensorFlow sees a GPU"
)


@dataclass(frozen=True)
class MadePackage(ModelPackage):
    """A package whose network is made in the test."""

    build: Callable[[], keras.Model] = keras.Model

    def build_network(self) -> keras.Model:
        return self.build()


class Hungry(keras.layers.Layer):
    """Takes more memory than there is for more than so many photos: NumPy, called by TensorFlow."""

    def __init__(self, photos: int):
        super().__init__()
        self.photos = photos

    def call(self, x):
        return x + tf.ensure_shape(tf.numpy_function(self.take, [tf.shape(x)[0]], tf.float32), [])

    def take(self, photos: int) -> np.float32:
        if photos > self.photos:
            np.empty(MORE_THAN_ANY_MACHINE_HAS, np.float32)
        return np.float32(0)


class HungryInTensorFlow(Hungry):
    """The same in TensorFlow's own memory. It waits ten seconds for more before it gives up."""

    def call(self, x):
        fits = tf.shape(x)[0] <= self.photos
        length = tf.where(fits, tf.constant(1, tf.int64), MORE_THAN_ANY_MACHINE_HAS)
        return x + tf.fill([length], 0 * x[0, 0, 0, 0])[0]


class Counting(keras.layers.Layer):
    """Notes the shapes it is traced for."""

    def __init__(self, shapes: list):
        super().__init__()
        self.note = shapes.append  # Keras copies lists.

    def call(self, x):
        self.note(tuple(x.shape))
        return x


def made_package(*layers: Callable[[], keras.layers.Layer], scale: float = 1.0) -> MadePackage:
    """A model of one convolution, with `layers` before it and weights that are always the same."""

    def build() -> keras.Model:
        image = x = keras.Input((None, None, 3))
        for layer in layers:
            x = layer()(x)
        convolution = keras.layers.Conv2D(CLASSES, STRIDE, STRIDE, dtype=None)
        logits = keras.layers.Activation("linear", dtype="float32")(convolution(x))
        kernel = np.random.default_rng(3).normal(0, scale, convolution.kernel.shape)
        convolution.set_weights([kernel, np.zeros(CLASSES)])
        return keras.Model(image, logits)

    return MadePackage(
        path=Path("made"),
        name="made",
        architecture="none",
        width=1.0,
        input_height=HEIGHT,
        input_width=WIDTH,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.3, 0.4),
        classes=ClassTable.of([("A", (1, 0, 0)), ("B", (2, 0, 0)), ("C", (3, 0, 0))]),
        training={},
        metrics={},
        fingerprint=uuid.uuid4().hex,
        build=build,
    )


def photos(count: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)


def warnings_in(caplog) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("models.") and record.levelno >= logging.WARNING
    ]


@pytest.mark.parametrize("make", ENGINES)
class TestPredicting:
    def test_the_logits_are_those_of_the_network_on_normalised_photos(self, make):
        package, images = made_package(keras.layers.BatchNormalization), photos(3)
        expected = package.build_network()(normalise(images, package.mean, package.std))
        logits = make(package).predict(images)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)

    def test_many_threads_get_the_answers_that_one_gets(self, make):
        batches = [photos(n, h, w) for n in (1, 2, 3) for h, w in ((32, 32), (32, 64), (64, 32))]
        expected = [make(made_package()).predict(images) for images in batches]
        engine = make(made_package())
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(engine.predict, batches * 5))
        for logits, known in zip(answers, expected * 5, strict=True):
            np.testing.assert_allclose(logits, known, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", OF_TENSORFLOW)
class TestMemory:
    def test_other_errors_are_not_taken_for_a_lack_of_memory(self, make, caplog):
        class Broken(Hungry):
            def take(self, photos):
                raise ValueError("cannot look at this")

        engine = make(made_package(lambda: Broken(2)))
        with pytest.raises(tf.errors.InvalidArgumentError, match="cannot look at this"):
            engine.predict(photos(4))
        assert not warnings_in(caplog) and engine.batch_size == 4

    def test_batches_are_halved_until_they_fit_and_stay_so(self, make, caplog):
        engine, images = make(made_package(lambda: Hungry(2))), photos(8)
        assert engine.batch_size == 4
        logits = engine.predict(images)
        np.testing.assert_allclose(
            logits, make(made_package()).predict(images), rtol=1e-5, atol=1e-5
        )
        assert engine.batch_size == 2
        engine.predict(images)
        said = "Out of memory with a batch of 8 photos: reduced to 2"
        assert warnings_in(caplog) == [said]

    def test_an_odd_batch_is_split_without_losing_a_photo(self, make):
        engine, images = make(made_package(lambda: Hungry(3))), photos(7)
        np.testing.assert_allclose(
            engine.predict(images), make(made_package()).predict(images), rtol=1e-5, atol=1e-5
        )
        assert engine.batch_size == 3

    def test_one_photo_that_does_not_fit_is_an_error_of_one_line(self, make):
        with pytest.raises(EngineError, match="out of memory with one photo") as caught:
            make(made_package(lambda: Hungry(0))).predict(photos(2))
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value.__cause__, tf.errors.ResourceExhaustedError)

    def test_a_batch_that_fits_is_not_split(self, make):
        shapes = []
        make(made_package(partial(Counting, shapes)), batch_size=2).predict(photos(6))
        assert {shape[0] for shape in shapes} <= {None, 6}

    def test_threads_that_run_out_of_memory_together_say_so_once(self, make, caplog):
        engine, images = make(made_package(lambda: Hungry(2))), photos(8)
        expected = make(made_package()).predict(images)
        with ThreadPoolExecutor(4) as pool:
            for logits in pool.map(engine.predict, [images] * 8):
                np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
        assert engine.batch_size == 2
        assert len(warnings_in(caplog)) == 1


def test_the_memory_that_runs_out_may_be_that_of_tensorflow():
    engine = tensorflow(made_package(lambda: HungryInTensorFlow(1)))
    engine.predict(photos(2))
    assert engine.batch_size == 1


SIZES = [(1, 1), (24, 48), (33, 65), (300, 500), (7, TILE_WIDTH + 1), (TILE_WIDTH + 7, 9)]


def assert_same_masks(found: list, logits: np.ndarray, sizes: list, differing: int) -> None:
    """Masks and counts are those of `logits_to_mask`, but for so many pixels in all of them."""
    differences = 0
    assert len(found) == len(sizes)
    for (mask, counts), of_photo, size in zip(found, logits, sizes, strict=False):
        expected, _ = logits_to_mask(of_photo, *size)
        assert (mask.shape, mask.dtype, counts.dtype) == (size, np.uint8, np.int64)
        assert np.array_equal(counts, np.bincount(mask.ravel(), minlength=logits.shape[3]))
        differences += int((mask != expected).sum())
    assert differences <= differing


class TestMasks:
    """What `TensorFlowGpuEngine.predict_masks` gives, on this machine's CPU."""

    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_they_are_those_of_the_logits_at_any_sizes(self, jit_compile):
        engine = gpu_on_cpu(made_package(), jit_compile=jit_compile)
        images = photos(len(SIZES))
        masks = engine.predict_masks(images, SIZES)
        assert_same_masks(masks, engine.predict(images), SIZES, differing=2)
        assert all(counts.all() for _, counts in masks[1:])

    @pytest.mark.parametrize("name", ["default", "fcn8s"])
    def test_those_of_a_real_model_are_those_of_the_engine_for_cpus(self, name):
        package, photo = load_package(name), photos(1, 96, 128)
        engine = gpu_on_cpu(package)
        size = (480, 640)
        logits = TensorFlowEngine(package).predict(photo)
        assert_same_masks(engine.predict_masks(photo, [size]), logits, [size], differing=30)

    def test_half_precision_changes_few_pixels(self):
        package, photo = load_package("default"), photos(1, 96, 128)
        half = gpu_on_cpu(package, precision=Precision.F16)
        logits = TensorFlowEngine(package).predict(photo)
        assert half.predict(photo).dtype == np.float32
        assert np.abs(half.predict(photo) - logits).max() > 0
        size = (480, 640)
        assert_same_masks(half.predict_masks(photo, [size]), logits, [size], differing=10_000)

    def test_margins_are_left_out_on_a_circle(self):
        engine, images, margin = gpu_on_cpu(made_package()), photos(3, 64, 192), 32
        sizes = [(33, 65), (300, TILE_WIDTH + 5), (9, 9)]
        logits = engine.predict(images)
        columns = margin * logits.shape[2] // images.shape[2]
        for found, of_photo, size in zip(
            engine.predict_masks(images, sizes, margin), logits, sizes, strict=True
        ):
            expected, counts = logits_to_mask(of_photo, *size, columns)
            assert (found[0] != expected).sum() <= 2
            assert found[1].sum() == counts.sum() == size[0] * size[1]

    def test_photos_beyond_the_sizes_are_padding(self):
        engine, images = gpu_on_cpu(made_package()), photos(4)
        alone = engine.predict_masks(images, [(50, 60)] * 4)
        for given in (1, 3):
            masks = engine.predict_masks(images, [(50, 60)] * given)
            assert len(masks) == given
            for (mask, counts), (expected, expected_counts) in zip(masks, alone, strict=False):
                assert np.array_equal(mask, expected)
                assert np.array_equal(counts, expected_counts)

    def test_ties_go_to_the_lower_class(self):
        engine = gpu_on_cpu(made_package(scale=0))
        ((mask, counts),) = engine.predict_masks(photos(1), [(40, 50)])
        assert not mask.any() and counts.tolist() == [2000, 0, 0]

    def test_many_classes_are_done_in_lower_tiles(self):
        logits = np.random.default_rng(0).normal(size=(2, 5, 7, 255)).astype(np.float32)
        sizes = [(300, 40), (90, 1500)]
        assert tiles.tile_height(2, 255) == 128
        started = tiles.start(tiles.compile_tile(logits.shape, False), tf.constant(logits), sizes)
        assert_same_masks(tiles.assemble(started, sizes), logits, sizes, differing=2)

    def test_batches_that_do_not_fit_are_halved(self, caplog):
        engine, images = gpu_on_cpu(made_package(lambda: Hungry(2))), photos(7)
        sizes = [(20 + n, 30 + n) for n in range(6)]
        masks = engine.predict_masks(images, sizes)
        assert_same_masks(masks, engine.predict(images), sizes, differing=1)
        assert engine.batch_size <= 2 and len(warnings_in(caplog)) == 1

    def test_many_threads_get_the_masks_that_one_gets(self):
        batches = [photos(n, h, w) for n in (1, 2) for h, w in ((32, 32), (32, 64), (64, 32))]
        engine = gpu_on_cpu(made_package())
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(engine.predict_masks, batches * 3, [[(99, 98)]] * 18))
        for masks, images in zip(found, batches * 3, strict=True):
            assert_same_masks(masks, engine.predict(images)[:1], [(99, 98)], differing=1)

    def test_new_sizes_compile_nothing(self):
        engine = gpu_on_cpu(made_package())
        engine.predict_masks(photos(2), [(40, 50)] * 2)
        compiled = context().list_function_names()
        for side in (1, 51, TILE_WIDTH + 1):
            engine.predict_masks(photos(2), [(side, 50), (40, side)])
        assert context().list_function_names() == compiled
        engine.predict_masks(photos(3), [(40, 50)])
        assert context().list_function_names() > compiled


class TestOverflow:
    """A network whose logits half precision cannot hold."""

    def test_photos_that_overflow_are_done_again_in_single_precision(self, caplog):
        images = photos(3)
        images[1] = 128, 102, 76  # All but the mean: nothing to overflow.
        package = made_package(scale=1e4)
        expected = TensorFlowEngine(package).predict(images)
        largest = np.abs(expected).max(axis=(1, 2, 3))
        assert (largest > np.finfo(np.float16).max).tolist() == [True, False, True]
        reads = []
        package = replace(package, build=lambda build=package.build: reads.append(1) or build())
        engine = gpu_on_cpu(package, precision=Precision.F16)
        for _ in range(2):
            np.testing.assert_allclose(engine.predict(images), expected, rtol=1e-2, atol=50)
            masks = engine.predict_masks(images, [(64, 128)] * 3)
            assert_same_masks(masks, expected, [(64, 128)] * 3, differing=40)
        assert len(reads) == 1  # The package's files may be gone by now.
        assert warnings_in(caplog) == [
            "The network overflows in mixed_float16: such photos are computed again in float32"
        ]

    def test_others_stay_in_half_precision(self):
        package, quiet = made_package(scale=1e4), 128 + photos(1, 64, 64) // 64
        expected = gpu_on_cpu(package, precision=Precision.F16).predict(quiet)
        assert not np.allclose(expected, TensorFlowEngine(package).predict(quiet), rtol=1e-5)
        engine = gpu_on_cpu(package, precision=Precision.F16)
        engine.predict(photos(3))
        assert np.array_equal(engine.predict(quiet), expected)

    @pytest.mark.parametrize("precision", [Precision.F32, Precision.F16])
    def test_a_photo_that_single_precision_cannot_hold_either_has_no_mask(self, precision):
        class Dividing(keras.layers.Layer):
            def call(self, x):
                return x / tf.reduce_max(x, axis=(1, 2, 3), keepdims=True)

        images = photos(3)
        images[1] = 0
        engine = gpu_on_cpu(
            replace(made_package(Dividing), mean=(0.0, 0.0, 0.0)), precision=precision
        )
        first, second, third = engine.predict_masks(images, [(9, 9)] * 3)
        assert second is None
        assert first[1].sum() == third[1].sum() == 81
        assert np.isfinite(engine.predict(images)).all(axis=(1, 2, 3)).tolist() == [
            True, False, True,
        ]  # fmt: skip


class TestBatchSize:
    @pytest.mark.parametrize(
        ("bytes_per_photo", "memory", "size"),
        [(100, 99, 1), (100, 100, 1), (100, 399, 2), (100, 400, 4), (1, 10**9, MOST_ON_GPU)],
    )
    def test_as_many_photos_as_fit_into_memory(self, bytes_per_photo, memory, size):
        assert fitting(bytes_per_photo, memory) == size

    def test_a_larger_input_gets_smaller_batches(self):
        def chosen(side):
            package = replace(made_package(), input_height=side, input_width=side)
            return gpu_on_cpu(package, batch_size=None).batch_size

        assert device_memory(CPU) == 256 << 20  # Whatever the machine has.
        assert [chosen(side) for side in (32, 1024, 2048)] == [16, 4, 1]

    def test_what_is_asked_for_is_taken(self):
        for make in ENGINES:
            assert make(made_package(), batch_size=7).batch_size == 7


class TestWarmUp:
    def test_the_first_batch_finds_everything_compiled(self, caplog):
        caplog.set_level(logging.INFO)
        shapes = []
        engine = gpu_on_cpu(made_package(partial(Counting, shapes)))
        engine.warm_up()
        assert shapes[-1] == (4, HEIGHT, WIDTH, 3)
        traced = len(shapes)
        engine.predict_masks(photos(4), [(100, 200)] * 4)
        assert len(shapes) == traced
        assert "float32, batches of 4 photos, ready after" in caplog.messages[-1]

    def test_it_finds_the_batch_that_fits(self, caplog):
        engine = gpu_on_cpu(made_package(lambda: Hungry(1)))
        engine.warm_up()
        assert engine.batch_size == 1 and len(warnings_in(caplog)) == 1


class TestOpenVino:
    """A network is converted once and read from the cache ever after."""

    @pytest.fixture(autouse=True)
    def cache(self, tmp_path, monkeypatch) -> Path:
        monkeypatch.setenv(conversion.CACHE, str(tmp_path / "cache"))
        return tmp_path / "cache"

    @staticmethod
    def without_network(package: MadePackage) -> MadePackage:
        def refuse() -> keras.Model:
            raise AssertionError("the network is built again")

        return replace(package, build=refuse)

    def test_a_converted_network_is_kept(self):
        package, images = made_package(), photos(2)
        expected = openvino(package).predict(images)
        again = openvino(self.without_network(package)).predict(images)
        assert np.array_equal(again, expected)

    def test_one_that_is_damaged_is_made_anew(self, cache):
        package, images = made_package(), photos(1)
        expected = openvino(package).predict(images)
        (file,) = cache.rglob("*.xml")
        file.write_text(file.read_text()[:1000])
        assert np.array_equal(openvino(package).predict(images), expected)
        assert np.array_equal(openvino(self.without_network(package)).predict(images), expected)

    def test_threads_may_begin_all_at_once(self, tiny_model):
        """In the set-up of the library's binding they would wait for each other for ever."""
        script = (
            "import sys, threading, numpy as np\n"
            "from models.engines import EngineOptions, load_engine\n"
            "from models.packages import load_package\n"
            "engine = load_engine(load_package(sys.argv[1]), EngineOptions(threads=8))\n"
            "images, together = np.zeros((1, 64, 96, 3), np.uint8), threading.Barrier(8)\n"
            "def predict():\n"
            "    together.wait()\n"
            "    engine.predict(images)\n"
            "sys.setswitchinterval(1e-6)\n"
            "threads = [threading.Thread(target=predict, daemon=True) for _ in range(8)]\n"
            "for thread in threads: thread.start()\n"
            "for thread in threads: thread.join()\n"
        )
        for _ in range(8):
            subprocess.run([sys.executable, "-c", script, str(tiny_model)], check=True, timeout=120)

    def test_nothing_is_reported_to_its_makers(self, tiny_model):
        script = (
            "import sys\n"
            "from models.engines import load_engine\n"
            "from models.packages import load_package\n"
            "load_engine(load_package(sys.argv[1]))\n"
            "assert sys.modules['openvino']\n"
            "assert not any(n.startswith('openvino_telemetry.') for n in sys.modules)\n"
        )
        subprocess.run([sys.executable, "-c", script, str(tiny_model)], check=True)

    def test_a_folder_that_cannot_be_written_costs_only_time(self, cache):
        cache.write_text("a file in its place")
        assert openvino(made_package()).predict(photos(1)).any()

    def test_other_weights_are_another_network(self):
        package, images = made_package(), photos(1)
        first = openvino(package).predict(images)
        other = replace(made_package(scale=2), fingerprint=uuid.uuid4().hex)
        assert not np.array_equal(openvino(other).predict(images), first)

    def test_no_tensorflow_is_imported_for_a_kept_one(self, tiny_model):
        script = (
            "import sys, numpy as np\n"
            "from models.engines import load_engine\n"
            "from models.packages import load_package\n"
            "engine = load_engine(load_package(sys.argv[1]))\n"
            "engine.predict(np.zeros((1, 64, 96, 3), np.uint8))\n"
            "print('tensorflow' in sys.modules)\n"
        )
        command = [sys.executable, "-c", script, str(tiny_model)]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
        said = [
            subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            for _ in range(2)
        ]
        assert [done.stdout.strip() for done in said] == ["True", "False"]

    def test_an_operation_it_does_not_know_is_one_clear_line(self, tmp_path, caplog):
        package = made_package(lambda: Hungry(8))
        with pytest.raises(EngineError, match="OpenVINO cannot run made: .*PyFunc") as caught:
            load_engine(package, EngineOptions(EngineName.OPENVINO))
        assert "\n" not in str(caught.value)
        assert isinstance(load_engine(package), TensorFlowEngine)
        (said,) = warnings_in(caplog)
        assert said.startswith("TensorFlow is used instead of OpenVINO: OpenVINO cannot run made")

    def test_bfloat16_is_refused_where_the_processor_lacks_it(self):
        conversion.import_openvino()
        from openvino import Core

        if "BF16" in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            images = photos(2)
            single = openvino(made_package()).predict(images)
            half = openvino(made_package(), precision=Precision.BF16).predict(images)
            np.testing.assert_allclose(half, single, rtol=0.05, atol=0.05)
            assert not np.array_equal(half, single)
        else:
            with pytest.raises(EngineError, match="does not compute in bf16 on .*: choose"):
                openvino(made_package(), precision=Precision.BF16)


class TestChoosing:
    @needs_no_gpu
    def test_without_a_gpu_it_is_openvino(self, tiny_model, caplog):
        engine = load_engine(load_package(tiny_model), EngineOptions(batch_size=3, threads=2))
        assert isinstance(engine, OpenVinoEngine) and not isinstance(engine, MaskEngine)
        assert (engine.batch_size, engine.streams) == (3, 2)
        assert not warnings_in(caplog)

    @needs_no_gpu
    def test_tensorflow_on_request(self, tiny_model):
        engine = load_engine(load_package(tiny_model), EngineOptions(EngineName.TENSORFLOW))
        assert isinstance(engine, TensorFlowEngine) and engine.batch_size == 1

    def test_jax_needs_a_process_of_its_own(self, tiny_model):
        with pytest.raises(EngineError, match="already runs on tensorflow .* KERAS_BACKEND=jax"):
            load_engine(load_package(tiny_model), EngineOptions(EngineName.JAX))

    @needs_no_gpu
    def test_a_gpu_that_is_wanted_but_not_there_is_one_clear_line(self, tiny_model, caplog):
        engine = load_engine(load_package(tiny_model), EngineOptions(gpu=GpuPolicy.WANTED))
        assert isinstance(engine, OpenVinoEngine)
        (said,) = warnings_in(caplog)
        assert "\n" not in said
        for part in ("the CPU is used", f"TensorFlow {tf.__version__}", "driver", "accelerator"):
            assert part in said

    def test_openvino_on_a_gpu_that_is_required_is_an_error(self, tiny_model):
        options = EngineOptions(EngineName.OPENVINO, gpu=GpuPolicy.REQUIRED)
        with pytest.raises(EngineError, match="OpenVINO runs on CPUs here: choose the engine auto"):
            load_engine(load_package(tiny_model), options)

    @needs_no_gpu
    def test_a_gpu_that_is_required_but_not_there_is_an_error(self, tiny_model, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        options = EngineOptions(gpu=GpuPolicy.REQUIRED)
        with pytest.raises(
            EngineError, match="a GPU is required: TensorFlow .* finds no GPU"
        ) as said:
            load_engine(load_package(tiny_model), options)
        assert "CUDA_VISIBLE_DEVICES is '-1'" in str(said.value)

    @needs_gpu
    def test_a_gpu_is_used_and_gives_the_masks_of_the_cpu(self):
        package, images = load_package("default"), photos(4, 384, 512)
        engine = load_engine(package, EngineOptions(gpu=GpuPolicy.REQUIRED))
        assert isinstance(engine, MaskEngine) and engine.batch_size > 1
        for gpu in tf.config.list_physical_devices("GPU"):
            assert tf.config.experimental.get_memory_growth(gpu)
        logits, sizes = TensorFlowEngine(package).predict(images), [(768, 1024)] * 4
        masks = engine.predict_masks(images, sizes)
        assert_same_masks(masks, logits, sizes, differing=4 * 768 * 1024 // 20)


ON_JAX = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from keras import ops
from models.engines import (
    EngineError,
    EngineName,
    EngineOptions,
    GpuPolicy,
    MaskEngine,
    Precision,
    conversion,
    load_engine,
    tiles,
)
from models.engines.batches import Batches
from models.engines.keras_backends import KerasEngine
from models.packages import load_package

package = load_package(sys.argv[1])
engine = load_engine(package, EngineOptions(gpu=GpuPolicy.WANTED))
assert isinstance(engine, KerasEngine) and not isinstance(engine, MaskEngine)
batches = [np.random.default_rng(n).integers(0, 256, (n, 32, 64, 3), np.uint8) for n in (1, 2)]
with ThreadPoolExecutor(4) as pool:
    answers = list(pool.map(engine.predict, batches * 4))
for images, logits in zip(batches * 4, answers, strict=True):
    np.testing.assert_allclose(logits, engine.predict(images), rtol=1e-4, atol=1e-4)

def take(part):
    ops.zeros((1 if part.stop - part.start < 3 else 1 << 45,))
    return part

limited = Batches(4)
assert limited.run(4, take) == [slice(0, 2), slice(2, 4)] and limited.size == 2
try:
    load_engine(package, EngineOptions(gpu=GpuPolicy.REQUIRED))
except EngineError as error:
    print(error)
"""


def test_on_jax_threads_memory_and_a_missing_gpu_are_dealt_with_alike(tiny_model):
    done = on_jax("-c", ON_JAX, tiny_model)
    assert "A GPU is wanted, the CPU is used: Keras on jax finds cpu:0" in done.stderr
    assert "Out of memory with a batch of 4 photos: reduced to 2" in done.stderr
    assert "a GPU is required: Keras on jax finds cpu:0" in done.stdout
