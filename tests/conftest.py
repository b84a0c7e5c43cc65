"""Fixtures of many tests: the folder of shared data, generated photos, a tiny model."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.made_models import make_model
from tests.memory_store import registered
from tests.without_tensorflow import make_environment

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# OpenVINO's telemetry would call its servers, for tests that import OpenVINO by themselves.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
if "PYTEST_XDIST_WORKER" not in os.environ:  # Else it has the cache of the process that started it.
    os.environ["CITYMASK_CACHE"] = tempfile.mkdtemp(prefix="citymask-cache-")
    atexit.register(shutil.rmtree, os.environ["CITYMASK_CACHE"], ignore_errors=True)

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data that is not part of the project; tests that need it skip without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"{SHARED_DATA} is not there")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A model package of three classes with random weights."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny").path


@pytest.fixture(scope="session")
def int8_model(tiny_model, labelled_photos, tmp_path_factory) -> Path:
    """The same with an int8 network, and with known losses of int8 and bf16."""
    from models.packages import load_package
    from models.quantisation import quantise

    folder = tmp_path_factory.mktemp("models") / "int8"
    quantised = quantise(load_package(tiny_model), labelled_photos, folder, max_loss=1)
    loss = {"split": "val", "images": 4, "miou": 0.5, "loss": 0.001}
    described = json.loads((folder / "model.json").read_text())
    described["precisions"] |= {"bf16": loss}  # Whatever this processor has.
    (folder / "model.json").write_text(json.dumps(described))
    return quantised.package.path


@pytest.fixture(scope="session")
def imported_model(tmp_path_factory) -> Path:
    """The package of an imported ONNX network that gives scores of Cityscapes' classes."""
    from tests.made_graphs import giving_scores

    return giving_scores(tmp_path_factory.mktemp("models") / "streets").path


@pytest.fixture(scope="session")
def class_ids_model(tmp_path_factory) -> Path:
    """The package of an imported ONNX network of one size that gives class ids of Cityscapes."""
    from tests.made_graphs import giving_class_ids

    return giving_class_ids(tmp_path_factory.mktemp("models") / "ids").path


@pytest.fixture(scope="session")
def labelled_photos(make_photo, tmp_path_factory) -> Path:
    """Photos and labels of three classes in the CamVid layout: 20 in train, 4 in val."""
    folder = tmp_path_factory.mktemp("labelled")
    random = np.random.default_rng(0)
    for split, number in (("train", 20), ("val", 4)):
        (folder / f"{split}annot").mkdir()
        for seed in range(number):
            make_photo(folder / split / f"{seed}.png", seed=seed)
            label = random.integers(0, 3, (4, 6), np.uint8).repeat(16, 0).repeat(16, 1)
            Image.fromarray(label).save(folder / f"{split}annot" / f"{seed}.png")
    return folder


@pytest.fixture(scope="session")
def citymask():
    """A function that runs a command line as the console script does, without a new process."""
    from tests.command_line import citymask

    return citymask


@pytest.fixture(scope="session")
def run_without_tensorflow(tmp_path_factory):
    """A function that runs Python to its end in an environment that has no TensorFlow."""
    python = make_environment(tmp_path_factory.mktemp("environment"))

    def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **variables}
        command = [str(python), *map(str, arguments)]
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600
        )

    return run


@pytest.fixture(scope="session")
def make_photo():
    """A function that saves a made photo: a gradient with noise, different for each seed."""

    def make(path: Path, width: int = 96, height: int = 64, seed: int = 0, **save) -> Path:
        random = np.random.default_rng(seed)
        ramp = np.linspace(0, 200, height, dtype=np.float32)[:, None, None]
        pixels = ramp + random.uniform(0, 55, (height, width, 3))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path, **save)
        return path

    return make


@pytest.fixture(scope="session")
def cloud_storage_at():
    """A context in which this process takes the server at a URL for Cloud Storage."""
    from transforms.storage import gcs_client, metering
    from transforms.storage.gcs import GcsStore

    @contextmanager
    def at(url: str, patience: gcs_client.Patience = gcs_client.DEFAULT_PATIENCE):
        with (
            pytest.MonkeyPatch.context() as patch,
            registered("gs", GcsStore(patience)),
        ):
            patch.setenv(gcs_client.EMULATOR, url)
            metering.take()
            yield

    return at
