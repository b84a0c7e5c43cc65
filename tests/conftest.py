"""What many tests share: real photos where they are at hand, made ones elsewhere, a tiny model."""

import atexit
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CITYMASK_CACHE"] = tempfile.mkdtemp(prefix="citymask-cache-")

import numpy as np
import pytest
from PIL import Image

from tests.memory_store import registered

atexit.register(shutil.rmtree, os.environ["CITYMASK_CACHE"], ignore_errors=True)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data that is not part of the project; tests that need it skip without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"{SHARED_DATA} is not there")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A model package of three classes that is quick and knows nothing."""
    import keras

    from models.classes import ClassTable
    from models.networks import build_network
    from models.packages import write_package

    keras.utils.set_random_seed(7)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_package(
        folder,
        build_network("efficientnet_fpn", classes=3, width=0.1),
        name="tiny",
        architecture="efficientnet_fpn",
        width=0.1,
        input_height=64,
        input_width=96,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        classes=ClassTable.of(
            [("Sky", (0, 0, 255)), ("Tree top", (0, 128, 0)), ("Road", (9, 9, 9))]
        ),
        training={"data": "none"},
        metrics={},
    )
    return folder


@pytest.fixture
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
