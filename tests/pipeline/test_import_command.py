"""`citymask import`, from a file of a network to a package that segments photos."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.packages import load_package
from models.segmenter import Segmenter
from pipeline import importing
from tests.onnx_models import kernel, segmenting


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """An ONNX file that states all that it takes and gives."""
    file = tmp_path_factory.mktemp("network") / "streets.onnx"
    stated = {
        "names": "{0: 'sky', 1: 'tree', 2: 'road'}",
        "imgsz": "[64, 96]",
        "mean": "[0.5, 0.4, 0.3]",
        "std": "[0.2, 0.3, 0.4]",
        "model_license": "MIT",
    }
    file.write_bytes(segmenting(**stated).SerializeToString())
    return file


@pytest.fixture
def bare(tmp_path) -> Path:
    """An ONNX file that states nothing."""
    file = tmp_path / "bare.onnx"
    file.write_bytes(segmenting(weights=kernel(19), shape=("N", 19, "h", "w")).SerializeToString())
    return file


@pytest.fixture
def model(tmp_path) -> Path:
    return tmp_path / "models" / "streets"


def line_of(result) -> str:
    """The line with which a command is refused."""
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    return line


def left(model: Path) -> list[str]:
    """What is in and beside the folder of a model."""
    return sorted(str(p.relative_to(model.parent)) for p in model.parent.rglob("*"))


WHOLE = ["streets", "streets/model.json", "streets/network.onnx", "streets/overlay.jpg"]


def test_a_network_becomes_a_package_that_segments_photos(citymask, network, model, make_photo):
    photo = make_photo(model.parent / "photo.png", 120, 80)
    result = citymask("import", network, "--output", model, "--photo", photo)
    assert result.exit_code == 0, result.output
    printed = " ".join(result.output.split())
    for told in (
        "name streets", "format onnx, f32 the file", "size 96x64, others too the metadata",
        "mean 0.5, 0.4, 0.3 the metadata", "classes 3: sky, tree, road", "licence MIT",
        "colours RGB assumed", f"look at {model / 'overlay.jpg'}, then: citymask run",
    ):  # fmt: skip
        assert told in printed, told
    package = load_package(model)
    assert f"{package.model_id} is written to {model}" in printed
    assert left(model) == ["photo.png", *WHOLE]
    assert Image.open(model / "overlay.jpg").size == (120, 80)
    found = Segmenter.load(package).segment(Image.open(photo))
    for name, pixels in zip(package.classes.names, found.pixels, strict=True):
        if pixels:
            assert f"{name} {pixels / (120 * 80):.1%}" in printed


def test_a_network_that_states_nothing_is_understood_by_options(citymask, bare, model):
    result = citymask(
        "import", bare, "-o", model, "--name", "ours", "--classes", "cityscapes",
        "--input-size", "128x64", "--mean", "0,0,0", "--std", "1,1,1", "--channels", "BGR",
        "--resize", "pad", "--license", "ours alone",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    printed = " ".join(result.output.split())
    assert "mean 0, 0, 0 --mean" in printed and "licence ours alone --license" in printed
    assert "classes 19: road, sidewalk," in printed and "size 128x64, others too" in printed
    assert "Note:" not in printed
    package = load_package(model)
    graph = package.graph
    assert (package.name, package.training["licence"]) == ("ours", "ours alone")
    assert (package.mean, package.std) == ((0, 0, 0), (1, 1, 1))
    assert (graph.input.channels.value, graph.input.resize.value) == ("BGR", "pad")
    assert (package.input_width, package.input_height) == (128, 64)


def test_what_is_assumed_is_noted(citymask, bare, model):
    result = citymask("import", bare, "-o", model, "--input-size", "128x64")
    printed = " ".join(result.output.split())
    assert "classes 19: road, sidewalk," in printed and "assumed: cityscapes, by" in printed
    assert "Note: mean and std of the photos are stated nowhere" in printed


def test_labelled_photos_tell_what_is_better(citymask, network, model, labelled_photos):
    result = citymask("import", network, "-o", model, "--check", labelled_photos)
    assert result.exit_code == 0, result.output
    printed = " ".join(result.output.split())
    assert "as understood" in printed and "--channels BGR" in printed
    assert "on 4 labelled photos" in printed and load_package(model)


def test_a_package_stays_unless_it_is_to_be_replaced(citymask, network, model):
    assert citymask("import", network, "-o", model).exit_code == 0
    first = load_package(model).fingerprint
    line = line_of(citymask("import", network, "-o", model, "--channels", "BGR"))
    assert f"{model} exists: give another MODEL_DIR, or --force to replace it" in line
    assert load_package(model).fingerprint == first
    (model / "README.md").write_text("of the first one")
    result = citymask("import", network, "-o", model, "--channels", "BGR", "--force")
    assert result.exit_code == 0, result.output
    assert load_package(model).fingerprint != first and left(model) == WHOLE


def test_what_is_no_package_is_never_replaced(citymask, network, model):
    model.mkdir(parents=True)
    assert citymask("import", network, "-o", model).exit_code == 0
    for place in (model.parent, model / "model.json"):
        line = line_of(citymask("import", network, "-o", place, "--force"))
        assert f"{place} is no model package: give another MODEL_DIR" in line
    assert left(model) == WHOLE


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--mean", "0.5,0.5"], "'0.5,0.5' is not three numbers"),
        (["--mean", "nan,0,0"], "is not within"),
        (["--std", "0,0,0"], "is not within 0.001 to 1000"),
        (["--mean", "123,117,104"], "--mean 123,117,104 is for photos from 0 to 255"),
        (["--input-size", "big"], "is not WIDTHxHEIGHT"),
        (["--channels", "RGBA"], "'RGBA' is not one of 'RGB', 'BGR'"),
        (["--classes", "cityscape"], "cityscape"),
        (["--classes", "cityscapes"], "tells 3 classes apart, and --classes cityscapes has 19"),
        (["--background", "first"], "found 3 outputs and 3 classes"),
        (["--output-name", "aux"], "give one of them by --output-name"),
        (["--name", ""], "found the name ''"),
        (["--photo", "no-such.jpg"], "no-such.jpg"),
        (["--check", "no-such-folder"], "no such folder"),
    ],
)
def test_wrong_options_are_one_line_and_nothing_is_written(citymask, network, model, options, said):
    assert said in line_of(citymask("import", network, "-o", model, *options))
    assert not model.parent.exists()


def test_a_photo_that_is_none_is_one_line(citymask, network, model, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"no photo")
    photo = tmp_path / "photo.jpg"
    assert f"{photo}: " in line_of(citymask("import", network, "-o", model, "--photo", photo))
    assert not model.parent.exists()


def test_a_file_that_is_not_there_or_damaged_is_one_line(citymask, network, model, tmp_path):
    missing = tmp_path / "missing.onnx"
    assert f"{missing}: not found; expected" in line_of(citymask("import", missing, "-o", model))
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(network.read_bytes()[:100])
    assert f"{cut}: " in line_of(citymask("import", cut, "-o", model))
    assert not model.parent.exists()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_import_that_ends_early_leaves_what_was_there(
    citymask, network, model, monkeypatch, error, force
):
    before = []
    if force:
        assert citymask("import", network, "-o", model).exit_code == 0
        before = left(model)
    fingerprint = force and load_package(model).fingerprint

    def fail(*_):
        raise error

    monkeypatch.setattr(importing, "encode_overlay", fail)
    options = ("--channels", "BGR", *(["--force"] if force else []))
    result = citymask("import", network, "-o", model, *options)
    assert result.exit_code != 0
    if isinstance(error, OSError):
        assert "No space left on device" in line_of(result)
    assert left(model) == before
    assert not force or load_package(model).fingerprint == fingerprint


def test_folders_of_packages_can_be_read_by_others(citymask, network, model):
    model.parent.mkdir()
    assert citymask("import", network, "-o", model).exit_code == 0
    assert model.stat().st_mode == model.parent.stat().st_mode


def test_the_overlay_is_of_photo_and_mask(citymask, network, model, make_photo):
    photo = make_photo(model.parent / "photo.png", 120, 80)
    assert citymask("import", network, "-o", model, "--photo", photo).exit_code == 0
    overlay = np.asarray(Image.open(model / "overlay.jpg")).astype(int)
    assert np.abs(overlay - np.asarray(Image.open(photo))).mean() > 5
