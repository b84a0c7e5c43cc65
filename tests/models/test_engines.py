"""Engines: equal logits, batches that fit, and clear messages without a GPU.

Those for GPUs have tests of their own in `test_device_engine.py`.
"""

import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.engines import (
    EngineError,
    EngineName,
    EngineOptions,
    GpuPolicy,
    MaskEngine,
    Precision,
    conversion,
    load_engine,
)
from models.engines.device_engine import DeviceMaskEngine
from models.engines.openvino import OpenVinoEngine, load
from models.engines.tensorflow_cpu import TensorFlowEngine
from models.engines.tensorflow_device import TensorFlowDevice
from models.inputs import normalise
from models.packages import ModelPackage, load_package
from tests.made_packages import (
    Counting,
    MadePackage,
    assert_same_masks,
    made_package,
    photos,
    warnings_in,
)

MORE_THAN_ANY_MACHINE_HAS = 1 << 45


def tensorflow(package: ModelPackage, batch_size: int = 4) -> TensorFlowEngine:
    return TensorFlowEngine(package, EngineOptions(batch_size=batch_size))


def openvino(
    package: ModelPackage, batch_size: int = 4, precision: Precision = Precision.F32
) -> OpenVinoEngine:
    return load(package, EngineOptions(precision=precision, batch_size=batch_size))


def gpu_on_cpu(package: ModelPackage, batch_size: int = 4) -> DeviceMaskEngine:
    device = TensorFlowDevice("/device:CPU:0", jit_compile=False)
    return DeviceMaskEngine(package, device, Precision.F32, batch_size)


OF_TENSORFLOW = [tensorflow, gpu_on_cpu]
ENGINES = [*OF_TENSORFLOW, openvino]

needs_gpu = pytest.mark.skipif(
    not tf.config.list_physical_devices("GPU"), reason="TensorFlow sees no GPU"
)
needs_no_gpu = pytest.mark.skipif(
    bool(tf.config.list_physical_devices("GPU")), reason="TensorFlow sees a GPU"
)


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


def test_the_batch_that_is_asked_for_is_taken():
    for make in ENGINES:
        assert make(made_package(), batch_size=7).batch_size == 7


@pytest.mark.parametrize("name", ["default", "fcn8s"])
def test_masks_of_the_engine_for_gpus_are_those_of_the_one_for_cpus(name):
    package, photo, size = load_package(name), photos(1, 96, 128), (480, 640)
    logits = TensorFlowEngine(package).predict(photo)
    assert_same_masks(gpu_on_cpu(package).predict_masks(photo, [size]), logits, [size], 30)


def test_masks_of_a_real_model_in_half_precision_differ_in_few_pixels():
    package, photo, size = load_package("default"), photos(1, 96, 128), (480, 640)
    device = TensorFlowDevice("/device:CPU:0", jit_compile=False)
    half = DeviceMaskEngine(package, device, Precision.F16)
    logits = TensorFlowEngine(package).predict(photo)
    assert_same_masks(half.predict_masks(photo, [size]), logits, [size], differing=10_000)


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
