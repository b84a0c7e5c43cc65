"""`citymask evaluate` for a model of other classes than the labels."""

import json

import numpy as np
import pytest
from PIL import Image

from models.classes import CAMVID, ClassTable
from models.evaluation import Counts, Metrics, count_common
from models.meanings import Common, meanings
from tests.made_models import make_model

CITYSCAPES = ClassTable.load("cityscapes")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of Cityscapes' classes with random weights, and so wrong."""
    return make_model(tmp_path_factory.mktemp("models") / "streets", classes=CITYSCAPES).path


@pytest.fixture(scope="module")
def camvid(make_photo, tmp_path_factory):
    """Two photos with labels of CamVid's classes, the second half void."""
    data, random = tmp_path_factory.mktemp("camvid"), np.random.default_rng(5)
    (data / "valannot").mkdir()
    for seed in range(2):
        make_photo(data / "val" / f"{seed}.png", seed=seed)
        with Image.open(data / "val" / f"{seed}.png") as photo:
            size = photo.size
        label = random.integers(0, len(CAMVID), (6, 8), np.uint8)
        label[:, 4 * (1 - seed) :] = len(CAMVID) if seed else label[:, 4:]
        Image.fromarray(label).resize(size, Image.Resampling.NEAREST).save(
            data / "valannot" / f"{seed}.png"
        )
    return data


def test_a_model_of_cityscapes_is_scored_on_labels_of_camvid(citymask, camvid, model, tmp_path):
    file = tmp_path / "metrics.json"
    arguments = ("evaluate", "--model", model, "--data", camvid, "--classes", "camvid")
    done = citymask(*arguments, "--json", file)
    assert done.exit_code == 0, done.output
    assert "no class for" not in done.output and "labels' classes" not in done.output
    metrics = json.loads(file.read_text())
    assert tuple(entry["name"] for entry in metrics["classes"]) == meanings(CAMVID)

    run = citymask("run", camvid / "val", "--output", tmp_path / "out", "--model", model)
    assert run.exit_code == 0, run.output
    common = Common.of(CITYSCAPES, CAMVID)
    counts = Counts.nothing(11)
    for name in ("0.png", "1.png"):
        label = np.array(Image.open(camvid / "valannot" / name))
        label[label == len(CAMVID)] = 255
        mask = np.array(Image.open(tmp_path / "out" / "masks" / f"{name}.png"))
        counts += count_common(label, mask, common)
    expected = Metrics.of(common, counts)
    assert metrics["miou"] == pytest.approx(expected.miou)
    assert metrics["pixel_accuracy"] == pytest.approx(expected.pixel_accuracy)


def test_a_table_beside_the_labels_says_what_they_are(citymask, camvid, model, tmp_path):
    data = tmp_path / "data"
    for folder in ("val", "valannot"):
        (data / folder).parent.mkdir(exist_ok=True)
        (data / folder).symlink_to(camvid / folder)
    rows = [",".join(map(str, (entry.name, *entry.color))) for entry in CAMVID.classes]
    (data / "classes.csv").write_text("\n".join(["name,red,green,blue", *rows]))
    stated = citymask("evaluate", "--model", model, "--data", data)
    asked = citymask("evaluate", "--model", model, "--data", camvid, "--classes", "camvid")
    assert stated.exit_code == 0, stated.output
    assert "vehicle" in stated.output and stated.output == asked.output


def test_what_has_no_counterpart_is_named(citymask, camvid, model):
    done = citymask("evaluate", "--model", model, "--data", camvid, "--classes", "pascal-voc")
    assert done.exit_code == 0, done.output
    lines = " ".join(done.output.split())
    assert "Labels that the model has no class for, so left out: background, aeroplane" in lines
    assert "Not among the labels' classes, so wrong where predicted: road, sidewalk" in lines


def test_masks_have_the_classes_of_the_labels(citymask, camvid):
    masks = camvid / "valannot"
    done = citymask("evaluate", "--masks", masks, "--data", camvid, "--classes", "cityscapes")
    assert done.exit_code == 0, done.output
    assert "terrain" in done.output and "mIoU 1.0000" in done.output


def test_it_is_said_if_the_classes_of_the_labels_are_assumed(citymask, camvid, imported_model):
    arguments = ("evaluate", "--model", imported_model, "--data", camvid)
    note = (
        "The labels are taken to have the classes of the model; if not, state theirs by --classes"
    )
    assert note in citymask(*arguments).output
    assert note not in citymask(*arguments, "--classes", "camvid").output
