"""Networks and engines on JAX and on other backends of Keras, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from models.networks import build_network
from tests.jax_process import on_jax

NETWORKS = ("deeplab_largefov", "efficientnet_fpn", "fcn8s", "segnet", "unet")
CLASSES, WIDTH, SHAPE = 3, 0.125, (1, 64, 96, 3)

PREDICT = """
import sys
import numpy as np
from models.networks import build_network
folder, classes, width, *names = sys.argv[1:]
images = np.load(f"{folder}/images.npy")
for name in names:
    network = build_network(name, int(classes), float(width))
    network.load_weights(f"{folder}/{name}.weights.h5")
    np.save(f"{folder}/{name}.npy", network.predict_on_batch(images))
"""


def test_networks_give_the_same_logits_on_jax_and_tensorflow(tmp_path):
    random = np.random.default_rng(0)
    images = random.normal(size=SHAPE).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    expected = {}
    for name in NETWORKS:
        keras.utils.set_random_seed(1)
        network = build_network(name, CLASSES, WIDTH)
        network.save_weights(tmp_path / f"{name}.weights.h5")
        expected[name] = np.asarray(network(images, training=False))
    on_jax("-c", PREDICT, tmp_path, CLASSES, WIDTH, *NETWORKS)
    for name, logits in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), logits, rtol=1e-3, atol=1e-4)


def test_the_engines_for_gpus_do_the_same_on_jax():
    module = Path(__file__).with_name("test_device_engine.py")
    on_jax("-m", "pytest", "-q", "-p", "no:cacheprovider", module)


WITHOUT_GPU = """
import sys
import keras
import numpy as np
from models.engines import EngineError, EngineOptions, GpuPolicy, MaskEngine, Precision, load_engine
from models.engines.device_engine import DeviceEngine
from models.packages import load_package

package = load_package(sys.argv[1])
engine = load_engine(package, EngineOptions(gpu=GpuPolicy.WANTED))
assert keras.backend.backend() == "jax"
assert isinstance(engine, DeviceEngine) and not isinstance(engine, MaskEngine)
assert engine.predict(np.zeros((2, 32, 64, 3), np.uint8)).shape[0] == 2
for refused in (EngineOptions(gpu=GpuPolicy.REQUIRED), EngineOptions(precision=Precision.INT8)):
    try:
        load_engine(package, refused)
    except EngineError as error:
        print(error)
"""


def test_what_jax_cannot_do_here_is_one_clear_line(tiny_model):
    done = on_jax("-c", WITHOUT_GPU, tiny_model)
    assert "A GPU is wanted, the CPU is used: JAX " in done.stderr
    no_gpu, no_int8 = done.stdout.splitlines()
    assert "a GPU is required: JAX " in no_gpu and "Check that" in no_gpu
    assert "Keras does not compute in int8: choose the engine openvino" in no_int8


WITH_GPU = """
import sys
from models.engines import EngineOptions, MaskEngine, devices, gpus, jax_device, load_engine
from models.packages import load_package

devices.cuda_has_devices = lambda: True
jax_device.JaxDevice.is_cpu = False  # What JAX runs on here is taken for a GPU.
engine = load_engine(load_package(sys.argv[1]), EngineOptions(batch_size=2))
import keras
print(keras.backend.backend(), isinstance(engine, MaskEngine), "tensorflow" in sys.modules)
"""


def test_auto_is_jax_where_tensorflow_sees_no_gpu_and_jax_does(tiny_model):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
    environment.pop("KERAS_BACKEND", None)
    command = [sys.executable, "-c", WITH_GPU, str(tiny_model)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["jax", "True", "True"], done.stderr


@pytest.mark.parametrize("engine", ["auto", "tensorflow"])
def test_another_backend_is_one_clear_line(tiny_model, tmp_path, make_photo, engine):
    make_photo(tmp_path / "a.png")
    command = ["run", tmp_path / "a.png", "--output", tmp_path / "out", "--model", tiny_model]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, command), "--engine", engine],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert "Keras runs on torch in this process: set KERAS_BACKEND=tensorflow" in done.stderr
    assert "Traceback" not in done.stderr
