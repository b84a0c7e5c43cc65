"""Commands in an environment that has no TensorFlow: on JAX they are what they are elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.evaluation import evaluate
from models.labelled_photos import list_split
from models.packages import load_package

DEMO = Path(__file__).parents[2] / "demo" / "photos"
CPU = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


def test_there_is_none(run_without_tensorflow):
    done = run_without_tensorflow(
        "-c", "import keras.src.version, jax, apache_beam; import tensorflow"
    )
    assert "ModuleNotFoundError: No module named 'tensorflow'" in done.stderr


def test_a_run_on_jax_gives_the_masks_of_tensorflow(
    run_without_tensorflow, citymask, tiny_model, tmp_path
):
    line = ["run", DEMO, "--model", tiny_model, "--precision", "f32", "--output"]
    done = run_without_tensorflow(
        "-m", "pipeline", *line, tmp_path / "jax", "--engine", "jax", **CPU
    )
    assert done.returncode == 0, done.stderr
    assert citymask(*line, tmp_path / "tf", "--engine", "tensorflow").exit_code == 0
    names = sorted(path.relative_to(tmp_path / "tf") for path in (tmp_path / "tf").rglob("*.png"))
    assert len(names) == 4
    for name in names:
        with Image.open(tmp_path / "tf" / name) as one, Image.open(tmp_path / "jax" / name) as two:
            assert (np.asarray(one) == np.asarray(two)).mean() > 0.9999
    record = json.loads(next((tmp_path / "jax" / "runs").glob("*.json")).read_text())
    assert (record["images"]["done"], record["images"]["failed"]) == (4, 0)


def test_a_package_with_an_int8_network_needs_neither_it_nor_jax(
    run_without_tensorflow, int8_model, tmp_path
):
    line = ["run", DEMO, "--model", int8_model, "--output", tmp_path / "out"]
    empty = {"CITYMASK_CACHE": str(tmp_path / "cache")}
    done = run_without_tensorflow("-m", "pipeline", *line, **empty)
    assert done.returncode == 0, done.stderr
    record = json.loads(next((tmp_path / "out" / "runs").glob("*.json")).read_text())
    assert record["precisions"] == {"int8": 4}  # bf16 and f32 would have to be converted.


@pytest.fixture(scope="module")
def tflite_model(tmp_path_factory, citymask) -> Path:
    """The package of an imported TFLite network that OpenVINO does not read."""
    from tests.tflite_models import converted, with_context

    folder = tmp_path_factory.mktemp("tflite")
    (folder / "classes.csv").write_text(
        "name,red,green,blue\n" + "".join(f"c{i},{i},0,0\n" for i in range(5))
    )
    (folder / "network.tflite").write_bytes(converted(with_context))
    line = ["import", folder / "network.tflite", "--output", folder / "model"]
    done = citymask(*line, "--classes", folder / "classes.csv")
    assert done.exit_code == 0, done.output
    return folder / "model"


@pytest.mark.parametrize("model", ["imported_model", "tflite_model"])
def test_imported_networks_need_none(run_without_tensorflow, citymask, model, tmp_path, request):
    line = ["run", DEMO, "--model", request.getfixturevalue(model), "--output"]
    empty = {"CITYMASK_CACHE": str(tmp_path / "cache")}
    done = run_without_tensorflow("-m", "pipeline", *line, tmp_path / "without", **empty)
    assert done.returncode == 0, done.stderr
    assert citymask(*line, tmp_path / "with").exit_code == 0
    names = sorted(
        path.relative_to(tmp_path / "with") for path in (tmp_path / "with").rglob("*.png")
    )
    assert len(names) == 4
    for name in names:
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()


def test_training_and_evaluation_run_on_jax(run_without_tensorflow, tmp_path):
    data, model = tmp_path / "data", tmp_path / "model"
    for split in ("train", "val"):
        label = np.repeat(np.uint8([0, 1]), 16)[None].repeat(32, 0)
        photo = np.where(label[..., None], np.uint8([0, 0, 200]), np.uint8([200, 0, 0]))
        for folder, pixels in ((split, photo), (f"{split}annot", label)):
            (data / folder).mkdir(parents=True)
            Image.fromarray(pixels).save(data / folder / "a.png")
    (data / "classes.csv").write_text("name,red,green,blue\nLeft,255,0,0\nRight,0,0,255\n")
    train = "train deeplab_largefov --width 0.1 --input-size 32x32 --epochs 2 --output"
    measure = f"evaluate --model {model} --engine jax --json {tmp_path / 'measured.json'}"
    for line in ([*train.split(), model], measure.split()):
        done = run_without_tensorflow(
            "-m", "pipeline", *line, "--data", data, KERAS_BACKEND="jax", **CPU
        )
        assert done.returncode == 0, done.stderr
    stated = json.loads((model / "model.json").read_text())["metrics"]["pixel_accuracy"]
    on_jax = json.loads((tmp_path / "measured.json").read_text())["pixel_accuracy"]
    package = load_package(model)
    photos = list_split(data, "val", len(package.classes))
    assert evaluate(package, photos).pixel_accuracy == pytest.approx(stated, abs=0.01)
    assert on_jax == pytest.approx(stated, abs=0.01)


@pytest.mark.parametrize("engine", ["auto", "tensorflow"])
def test_what_needs_it_says_so_in_one_line(run_without_tensorflow, tiny_model, tmp_path, engine):
    line = ["run", DEMO, "--model", tiny_model, "--output", tmp_path / "out", "--engine", engine]
    cache = {"CITYMASK_CACHE": str(tmp_path / "cache")}
    done = run_without_tensorflow("-m", "pipeline", *line, **cache)
    assert done.returncode == 2
    assert "TensorFlow cannot be imported" in done.stderr and "--engine jax" in done.stderr
    assert "Traceback" not in done.stderr


def test_training_on_it_says_so_in_one_line(run_without_tensorflow, tmp_path):
    done = run_without_tensorflow(
        "-m", "pipeline", "train", "unet", "--data", tmp_path, "--output", tmp_path / "model"
    )
    assert done.returncode == 2
    assert "TensorFlow cannot be imported" in done.stderr and "KERAS_BACKEND=jax" in done.stderr
    assert "Traceback" not in done.stderr


WITH_GPU = """
import sys
from models.engines import EngineOptions, MaskEngine, devices, jax_device, load_engine
from models.labelled_photos import list_split
from models.packages import load_package

devices.cuda_has_devices = lambda: True
jax_device.JaxDevice.is_cpu = False  # What JAX runs on here is taken for a GPU.
engine = load_engine(load_package(sys.argv[1]), EngineOptions(batch_size=2))
import keras
print(keras.backend.backend(), isinstance(engine, MaskEngine))
"""


def test_auto_is_jax_where_it_sees_a_gpu(run_without_tensorflow, tiny_model):
    done = run_without_tensorflow("-c", WITH_GPU, tiny_model, **CPU)
    assert done.stdout.split() == ["jax", "True"], done.stderr
