"""The shipped models, exported by Keras, imported again and run.

All formats with the default model, and each of the other networks in the format that treats its
operations most unlike Keras. `benchmarks/imports.py` does all of both.
"""

from functools import cache

import pytest

from benchmarks.imports import EXPORTS, equal_pixels, export, import_of, masks_of, metrics_of
from models.labelled_photos import list_split
from models.labels import read_label
from models.packages import load_package
from tests.conftest import ROOT

OTHERS = [("fcn8s", "tf_saved_model"), ("segnet", "openvino"), ("unet", "onnx")]
EQUAL_PIXELS = 0.999
MIOU = 0.001
SOME = 20
PHOTOS = sorted((ROOT / "demo" / "photos").glob("**/*.jpg"))


@pytest.fixture(scope="module")
def network_of():
    """A function that gives a shipped model and its Keras network."""

    @cache
    def build(name):
        package = load_package(name)
        return package, package.build_network()

    return build


@pytest.fixture(scope="module")
def imported(network_of, tmp_path_factory, citymask):
    """A function that gives a shipped model that was exported and imported again."""

    @cache
    def export_and_import(name, form):
        package, network = network_of(name)
        source = export(network, form, tmp_path_factory.mktemp("exported"))
        done = citymask(*import_of(package, source))
        assert done.exit_code == 0, done.output
        return load_package(source.parent / "model")

    return export_and_import


@pytest.fixture(scope="module")
def masks_by():
    """A function that gives the masks of a shipped model."""
    return cache(lambda name, photos: masks_of(load_package(name), photos))


@pytest.mark.parametrize(("name", "form"), [*(("default", form) for form in EXPORTS), *OTHERS])
def test_masks_stay_the_same(name, form, imported, masks_by):
    found = masks_of(imported(name, form), PHOTOS)
    assert equal_pixels(found, masks_by(name, tuple(PHOTOS))) >= EQUAL_PIXELS


@pytest.mark.parametrize("form", EXPORTS)
def test_quality_stays_the_same(form, imported, masks_by, shared_data):
    package = load_package("default")
    photos = list_split(shared_data / "camvid", "val", len(package.classes))
    some = slice(None, None, len(photos) // SOME)
    labels = [read_label(path, photos.classes) for path in photos.labels[some]]
    own = metrics_of(package, labels, masks_by("default", photos.images[some]))
    again = metrics_of(package, labels, masks_of(imported("default", form), photos.images[some]))
    assert again.miou == pytest.approx(own.miou, abs=MIOU)
