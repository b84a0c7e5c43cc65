"""Foreground and background: a small U-Net is trained, measured and run."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EXAMPLE, PHANTOMS = EXAMPLES / "two_classes.py", EXAMPLES / "phantoms.py"


@pytest.fixture(scope="module")
def road(shared_data, tmp_path_factory):
    """Every sixth training and every tenth val frame of CamVid, as road and not road."""
    few, folder = (tmp_path_factory.mktemp(name) for name in ("few", "road"))
    for split, step in (("train", 6), ("val", 10)):
        for directory in (split, f"{split}annot"):
            (few / directory).mkdir()
            for file in sorted((shared_data / "camvid" / directory).glob("*.png"))[::step]:
                (few / directory / file.name).symlink_to(file)
    runpy.run_path(str(EXAMPLE))["main"](str(few), "Road", str(folder))
    return folder


def test_road_and_not_road_from_labels_to_masks(citymask, road, shared_data, tmp_path):
    options = "--width 0.125 --input-size 160x128 --epochs 6 --learning-rate 0.003"
    model = tmp_path / "road"
    done = citymask("train", "unet", "--data", road, "--output", model, *options.split())
    assert done.exit_code == 0, done.output

    file = tmp_path / "metrics.json"
    done = citymask("evaluate", "--model", model, "--data", road, "--json", file)
    assert done.exit_code == 0, done.output
    metrics = json.loads(file.read_text())
    assert [entry["name"] for entry in metrics["classes"]] == ["Road", "Not road"]
    assert metrics["classes"][0]["dice"] > 0.6
    for entry in metrics["classes"]:
        assert entry["dice"] == pytest.approx(2 * entry["iou"] / (1 + entry["iou"]))
    assert "Dice" in done.output

    out = tmp_path / "out"
    done = citymask("run", road / "val", "--output", out, "--model", model)
    assert done.exit_code == 0, done.output
    frame = sorted((road / "val").glob("*.png"))[0].name
    with Image.open(out / "masks" / f"{frame}.png") as image:
        mask = np.array(image)
    with Image.open(road / "valannot" / frame) as image:
        label = np.array(image)
    assert set(np.unique(mask)) <= {0, 1}
    assert np.mean(mask[label != 255] == label[label != 255]) > 0.6


def test_lesions_of_phantoms_from_photos_to_statistics_per_patient(citymask, tmp_path, output_at):
    data, model, out = (tmp_path / name for name in ("phantoms", "lesions", "out"))
    runpy.run_path(str(PHANTOMS))["main"](str(data), patients=4)
    options = "--width 0.1 --input-size 64x64 --epochs 2 --validate-every 2"
    done = citymask("train", "unet", "--data", data, "--output", model, *options.split())
    assert done.exit_code == 0, done.output

    file = tmp_path / "metrics.json"
    options = ["--objects", "Tumour", "--json", file]
    done = citymask("evaluate", "--model", model, "--data", data, *options)
    assert done.exit_code == 0, done.output
    none, tumour = json.loads(file.read_text())["classes"]
    assert tumour["objects"]["labelled"] == 2
    assert tumour["objects"]["recall_touched"] >= tumour["objects"]["recall_found"]
    assert "objects" not in none
    assert "Tumour: 2 objects, recall" in done.output

    photos = sorted((data / "val").iterdir())
    rows = ["uri,group", *(f"{photo},{photo.name.partition('_')[0]}" for photo in photos)]
    (tmp_path / "slices.csv").write_text("\n".join([*rows, ""]))
    done = citymask("run", tmp_path / "slices.csv", "--output", out, "--model", model, "--overlay")
    assert done.exit_code == 0, done.output
    found = output_at(out).rows
    assert list(found["group"].unique()) == ["patient03"] and len(found) == 10
    assert (found.pixels_tumour + found.pixels_no_tumour == 128 * 128).all()
