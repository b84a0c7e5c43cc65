"""int8 from the command line: `citymask quantise`, and runs with what it makes."""

import numpy as np
import pytest
from PIL import Image

from models.packages import load_package, shipped_names

MOST_BYTES = 12_000_000
"""What the int8 networks of all shipped models may take together."""


@pytest.fixture(scope="module")
def quantised(citymask, tiny_model, labelled_photos, tmp_path_factory):
    model = tmp_path_factory.mktemp("models") / "quantised"
    done = citymask("quantise", tiny_model, "--data", labelled_photos, "-o", model, "--max-loss", 9)
    assert done.exit_code == 0, done.output
    assert "in f32" in done.output and "in int8, on val" in done.output
    return model


@pytest.fixture
def photos(make_photo, tmp_path):
    for number in range(3):
        make_photo(tmp_path / "photos" / f"{number}.jpg", 160, 120, seed=number)
    return tmp_path / "photos"


def test_a_run_in_int8_makes_masks_in_int8(citymask, quantised, photos, output_at, tmp_path):
    outs = {}
    for precision in ("int8", "f32"):
        outs[precision] = output_at(tmp_path / precision)
        done = citymask(
            "run", photos, "-o", outs[precision].path, "--model", quantised,
            "--precision", precision,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    differing = [
        np.mean(np.asarray(Image.open(one)) != np.asarray(Image.open(other)))
        for one, other in (
            [out.path / name for out in outs.values()] for name in outs["int8"].masks
        )
    ]
    assert len(differing) == 3 and 0 < np.mean(differing) < 0.25


def test_int8_of_a_model_without_is_one_line(citymask, tiny_model, photos, tmp_path):
    done = citymask(
        "run", photos, "-o", tmp_path / "out", "--model", tiny_model, "--precision", "int8"
    )
    assert done.exit_code == 2
    assert "tiny has no int8 network" in done.output and "citymask quantise" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "found 0 photos (PNG or JPEG), expected at least 16"),
        (["--model", "none"], "unknown model 'none'"),
        (["--split", "test"], "its loss is unknown"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(
    citymask, tiny_model, labelled_photos, tmp_path, options, message
):
    given = dict(zip(options[::2], options[1::2], strict=True))
    model = given.pop("--model", tiny_model)
    settings = {"--data": labelled_photos, "-o": tmp_path / "new"} | given
    done = citymask("quantise", model, *(word for pair in settings.items() for word in pair))
    assert done.exit_code == (0 if "unknown" in message and "loss" in message else 2)
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_the_shipped_models_have_int8_networks_that_lose_little():
    total = 0
    for name in shipped_names():
        package = load_package(name)
        network = package.network_in("int8")
        assert network, name
        total += sum((package.path / file).stat().st_size for file in network.files)
        assert package.loss("int8") <= 0.005 and package.loss("bf16") <= 0.005
        assert "180 photos of camvid/train" in network.made["calibration"]
    assert total < MOST_BYTES


def test_int8_of_the_default_agrees_with_single_precision(shared_data, tmp_path):
    from models.engines import EngineName, EngineOptions, Precision
    from models.segmenter import Segmenter

    files = sorted((shared_data / "camvid" / "val").glob("*.png"))[::12]
    masks = {}
    for precision in (Precision.INT8, Precision.F32):
        segmenter = Segmenter.load("default", EngineOptions(EngineName.OPENVINO, precision))
        masks[precision] = [segmenter.segment(Image.open(file)).mask for file in files]
    assert np.mean(np.equal(*masks.values())) > 0.98
