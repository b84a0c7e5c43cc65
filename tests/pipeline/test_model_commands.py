"""`citymask train`, `evaluate` and `models`, from labelled photos to masks of one's own classes."""

import json

import numpy as np
import pytest
from PIL import Image

from models.known import known_models
from models.packages import load_package

SHIPPED = {"default": "efficientnet_fpn", "fcn8s": "fcn8s", "segnet": "segnet", "unet": "unet"}


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Labelled photos of two classes: red on the left, blue on the right."""
    folder = tmp_path_factory.mktemp("halves")
    (folder / "classes.csv").write_text("name,red,green,blue\nLeft,255,0,0\nRight,0,0,255\n")
    for split in ("train", "val"):
        for index in range(2):
            label = np.zeros((48, 64), np.uint8)
            label[:, 20 + 8 * index :] = 1
            photo = np.where(label[..., None], np.uint8([0, 0, 200]), np.uint8([200, 0, 0]))
            for name, pixels in ((split, photo), (f"{split}annot", label)):
                (folder / name).mkdir(exist_ok=True)
                Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def trained(citymask, halves, tmp_path_factory):
    model = tmp_path_factory.mktemp("models") / "halves"
    options = ["--width", "0.1", "--epochs", "1", "--batch-size", "2", "--licence", "CC0-1.0"]
    done = citymask("train", "efficientnet_fpn", "--data", halves, "--output", model, *options)
    assert done.exit_code == 0, done.output
    assert "mIoU" in done.output
    return model


def test_a_trained_package_says_what_it_was_trained_on(trained):
    description = json.loads((trained / "model.json").read_text())
    assert [entry["name"] for entry in description["classes"]] == ["Left", "Right"]
    assert description["training"]["licence"] == "CC0-1.0"
    assert description["metrics"]["split"] == "val"


def test_training_leaves_its_log_and_curves(trained):
    assert (trained / "training" / "log.csv").read_text().startswith("epoch,seconds,")
    with Image.open(trained / "curves.png") as curves:
        assert curves.format == "PNG"


def test_training_never_overwrites_a_model_without_being_told(trained, citymask, halves):
    before = (trained / "model.json").read_bytes()
    done = citymask("train", "efficientnet_fpn", "--data", halves, "--output", trained)
    assert done.exit_code == 2
    assert "--resume" in done.output
    assert "--force" in done.output
    assert (trained / "model.json").read_bytes() == before


def test_a_trained_package_segments(trained, citymask, halves, tmp_path):
    done = citymask("run", halves / "val", "--output", tmp_path / "out", "--model", trained)
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["images"]["done"] == 2
    assert sum(entry["pixels"] for entry in summary["classes"]) == 2 * 48 * 64


def test_a_split_that_is_not_there_is_named(trained, citymask, halves):
    done = citymask("evaluate", "--model", trained, "--data", halves, "--split", "test")
    assert done.exit_code == 2
    assert "test: no such folder" in done.output


def test_evaluation_writes_the_metrics_that_the_package_states(trained, citymask, halves, tmp_path):
    file = tmp_path / "metrics.json"
    done = citymask("evaluate", "--model", trained, "--data", halves, "--json", file)
    assert done.exit_code == 0, done.output
    metrics = json.loads(file.read_text())
    assert metrics.keys() >= {"miou", "pixel_accuracy", "mean_class_accuracy", "classes"}
    stated = json.loads((trained / "model.json").read_text())["metrics"]
    assert metrics["miou"] == pytest.approx(stated["miou"])
    assert [entry["name"] for entry in metrics["classes"]] == ["Left", "Right"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "segformer", "--output", "unused"], "segformer"),
        (["evaluate", "--model", "nope"], "unknown model"),
        (["evaluate"], "the labels have the classes Left, Right, the model has Sky,"),
        (["train", "unet", "--output", "unused", "--classes", "pascal"], "neither a class set"),
        (["train", "unet", "--output", "unused", "--input-size", "500x300"], "multiples of 32"),
        (["train", "unet", "--output", "unused", "--input-size", "8192x8192"], "8388608 pixels"),
        (["train", "unet", "--output", "unused", "--width", "40"], "0.001<=x<=8"),
        (["train", "unet", "--output", "unused", "--start-from", "default"], "no layer of it fits"),
        (["train", "unet", "--output", "unused", "--encoder-weights", "no.npz"], "no.npz"),
        (["train", "unet", "--output", "unused", "--teacher", "default"], "MODEL:MAPPING.csv"),
        (["train", "unet", "--output", "unused", "--teacher", "default:no.csv"], "no.csv"),
        (["train", "unet", "--output", "unused", "--freeze-up-to", "x"], "keep random weights"),
        (["train", "unet", "--output", "unused", "--unlabelled", "x"], "goes with --teacher"),
        (["train", "unet", "--output", "unused", "--data", "x:no.csv:z"], "the weight 'z'"),
        (
            ["train", "unet", "--output", "unused", "--classes", "camvid"],
            "have the classes Left, R",
        ),
    ],
)
def test_mistakes_end_with_one_line_and_exit_code_2(citymask, halves, tmp_path, arguments, message):
    arguments = [str(tmp_path / a) if a == "unused" else a for a in arguments]
    done = citymask(*arguments, "--data", halves)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_the_shipped_models_are_listed_with_classes_and_miou(citymask):
    done = citymask("models")
    assert done.exit_code == 0
    listed = {tuple(line.split()[:2]) for line in done.output.splitlines()}
    assert set(SHIPPED.items()) <= listed
    assert "Sky, Building, Pole" in done.output
    assert "images/s" in done.output


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_model_is_usable_by_its_name(citymask, make_photo, tmp_path, name):
    make_photo(tmp_path / "photos" / "a.jpg", 480, 360)
    done = citymask("run", tmp_path / "photos", "-o", tmp_path / "out", "--model", name)
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "out" / "masks" / "a.jpg.png") as mask:
        assert mask.size == (480, 360)
    package = load_package(name)
    assert package.network_bytes < (15e6 if name == "default" else 6e6)
    assert package.training["licence"] and package.training["commands"]


def test_published_networks_are_listed_with_the_commands_that_import_them(citymask):
    done = citymask("models", "--known")
    assert done.exit_code == 0
    for known in known_models():
        assert known.command in done.output and known.source in done.output
    assert "Nothing is downloaded" in done.output and "licences yourself" in done.output
