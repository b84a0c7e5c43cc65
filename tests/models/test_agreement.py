"""All engines and precisions agree on real photos: CamVid's validation split."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.engines import Precision, openvino
from models.evaluation import Counts, Metrics, count_pixels
from models.packages import load_package

EQUAL_PIXELS = {"f32": 0.9999, "bf16": 0.995, "int8": 0.99}
MIOU = 0.002
SOME, JAX_EQUAL_PIXELS = 8, 0.999

SEGMENT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from PIL import Image
from models.engines import EngineName, EngineOptions, Precision, load_engine
from models.inputs import network_shape, resize
from models.packages import load_package
from models.upsampling import logits_to_mask

name, precision, photos, every, output = sys.argv[1:]
package = load_package("default")
options = EngineOptions(EngineName(name), Precision(precision), batch_size=1)
engine = load_engine(package, options)

def segment(path):
    with Image.open(path) as image:
        shape = network_shape(*image.size, package.input_width, package.input_height)
        logits = engine.predict(resize(image.convert("RGB"), shape)[None])[0]
        return logits_to_mask(logits, image.height, image.width)[0]

paths = sorted(Path(photos).glob("*.png"))[:: int(every)]
with ThreadPoolExecutor(engine.streams) as pool:
    np.save(output, np.stack(list(pool.map(segment, paths))))
"""


@pytest.fixture(scope="module")
def split(shared_data) -> Path:
    return shared_data / "camvid" / "val"


@pytest.fixture(scope="module")
def masks_by(split, tmp_path_factory):
    """A function that segments the split with an engine, in a process of its own."""
    folder = tmp_path_factory.mktemp("masks")

    def segment(engine: str, precision: str, name: str = "", every: int = 1) -> np.ndarray:
        file = folder / f"{engine} {precision} {name}.npy"
        if not file.exists():
            subprocess.run(
                [
                    sys.executable,
                    "-c",
                    SEGMENT,
                    engine,
                    precision,
                    str(split),
                    str(every),
                    str(file),
                ],
                env={**os.environ, "JAX_PLATFORMS": "cpu"},
                check=True,
            )
        return np.load(file)

    return segment


@pytest.fixture(scope="module")
def miou(split):
    package = load_package("default")
    labels = []
    for path in sorted(split.glob("*.png")):
        with Image.open(split.parent / "valannot" / path.name) as label:
            labels.append(np.where(np.asarray(label) < len(package.classes), label, 255))

    def measure(masks: np.ndarray) -> float:
        classes = len(package.classes)
        counts = Counts.nothing(classes)
        for label, mask in zip(labels, masks, strict=True):
            counts += count_pixels(label.astype(np.uint8), mask, classes)
        return Metrics.of(package.classes, counts).miou

    return measure


@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
def test_openvino_agrees_with_tensorflow_in_single_precision(masks_by, miou, precision):
    openvino.check_installed()
    if not openvino.runs_in(Precision(precision)):
        pytest.skip(f"this processor has no {precision}")
    expected, masks = masks_by("tensorflow", "f32"), masks_by("openvino", precision)
    assert len(masks) > 100
    assert (masks == expected).mean() >= EQUAL_PIXELS[precision]
    assert miou(masks) == pytest.approx(miou(expected), abs=MIOU)


def test_jax_agrees_with_it_on_some_photos(masks_by):
    """On fewer: on a CPU it takes several times as long."""
    expected, masks = masks_by("tensorflow", "f32")[::SOME], masks_by("jax", "f32", every=SOME)
    assert len(masks) > 10
    assert (masks == expected).mean() >= JAX_EQUAL_PIXELS


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_single_precision_is_stable_to_the_bit(masks_by, engine):
    assert np.array_equal(masks_by(engine, "f32"), masks_by(engine, "f32", "again"))
