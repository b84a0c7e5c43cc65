"""A published network, ESPNetv2 for Cityscapes: exported by Keras, imported, and run."""

import numpy as np
import pytest
from PIL import Image

from models.classes import CAMVID
from models.engines import EngineOptions, Precision
from models.evaluation import measure
from models.inputs import normalise, resize
from models.labelled_photos import LabelledPhotos, list_split, read_photo
from models.meanings import Common
from models.packages import load_package
from models.segmenter import Segmenter
from models.upsampling import logits_to_mask
from tests.espnetv2 import BACKGROUND, INPUT_SIZE, MEAN, STD, WEIGHTS, build_espnetv2

EXPORTS = {"onnx": "espnetv2.onnx", "tf_saved_model": "espnetv2"}
EQUAL_PIXELS = 0.999
PIXEL_ACCURACY = 0.85
NORMALISED = ["--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD))]


@pytest.fixture(scope="module")
def network(shared_data):
    weights = shared_data / WEIGHTS
    if not weights.exists():
        pytest.skip(f"{weights} is not there")
    return build_espnetv2(weights)


@pytest.fixture(scope="module")
def photos(shared_data) -> list[Image.Image]:
    """Some street photos of different sizes."""
    files = sorted((shared_data / "street_photos").glob("*/*.jp*g"))
    return [Image.open(file).convert("RGB") for file in files[::17]]


@pytest.fixture(scope="module")
def expected(network, photos) -> list[np.ndarray]:
    """The masks that the Keras network itself gives."""
    masks = []
    for photo in photos:
        pixels = resize(photo, INPUT_SIZE[::-1])
        logits = network(normalise(pixels[None], MEAN, STD)).numpy()[0]
        masks.append(logits_to_mask(logits[..., :BACKGROUND], photo.height, photo.width)[0])
    return masks


@pytest.fixture(scope="module", params=EXPORTS)
def imported(request, network, expected, tmp_path_factory, citymask):
    """The model as `citymask import` makes it of an export."""
    folder = tmp_path_factory.mktemp("espnetv2")
    source = folder / EXPORTS[request.param]
    network.export(source, format=request.param, verbose=False)
    stated = ["--classes", "cityscapes", *NORMALISED]
    done = citymask("import", source, "--output", folder / "model", *stated)
    assert done.exit_code == 0, done.output
    return load_package(folder / "model")


def test_masks_of_an_imported_network_are_those_of_the_network(imported, photos, expected):
    segmenter = Segmenter.load(imported, EngineOptions(precision=Precision.F32))
    found = [segmenter.segment(photo).mask for photo in photos]
    equal = [(one == other).mean() for one, other in zip(found, expected, strict=True)]
    assert min(equal) >= EQUAL_PIXELS


def test_a_network_of_cityscapes_knows_the_streets_of_camvid(imported, shared_data):
    every = list_split(shared_data / "camvid", "val", len(CAMVID))
    some = LabelledPhotos(every.images[::60], every.labels[::60], every.classes)
    segmenter = Segmenter.load(imported)
    common = Common.of(imported.classes, CAMVID)
    found = measure(lambda path: segmenter.segment(read_photo(path)).mask, some, common)
    assert found.pixel_accuracy > PIXEL_ACCURACY
