"""Label ids in masks, and statistics of merged classes, from the command line to the files."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from models.classes import ClassTable
from models.packages import load_package
from tests.made_models import TINY, make_model

LABEL_IDS = (23, 21, 7)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The tiny model, with label ids that are not the class ids."""
    classes = tuple(
        replace(entry, label_id=label_id)
        for entry, label_id in zip(TINY.classes.classes, LABEL_IDS, strict=True)
    )
    folder = tmp_path_factory.mktemp("models") / "labelled"
    return make_model(folder, name="labelled", classes=ClassTable(classes)).path


@pytest.fixture
def photos(make_photo, tmp_path):
    for seed in range(3):
        make_photo(tmp_path / "photos" / "lund" / f"{seed}.png", seed=seed)
    return tmp_path / "photos"


def read_mask(path):
    with Image.open(path) as image:
        return np.array(image), image.getpalette("RGB")


def test_masks_hold_label_ids_when_asked_to(citymask, photos, model, output, output_at, tmp_path):
    plain = output_at(tmp_path / "plain")
    for out, options in ((plain, []), (output, ["--label-ids"])):
        done = citymask("run", photos, "--output", out.path, "--model", model, *options)
        assert done.exit_code == 0, done.output
    colors = [entry.color for entry in load_package(model).classes.classes]
    for name in plain.masks:
        ids, _ = read_mask(plain.path / name)
        values, palette = read_mask(output.path / name)
        assert np.array_equal(np.take(LABEL_IDS, ids), values)
        for label_id, color in zip(LABEL_IDS, colors, strict=True):
            assert tuple(palette[3 * label_id : 3 * label_id + 3]) == color
    pixels = [c for c in plain.rows if c.startswith("pixels_")]
    assert plain.rows[pixels].equals(output.rows[pixels])


def test_masks_of_both_kinds_stand_side_by_side(citymask, photos, model, output):
    for options in ([], ["--label-ids"]):
        assert citymask("run", photos, "-o", output.path, "--model", model, *options).exit_code == 0
    assert len(output.masks) == 6
    assert sorted(set(output.rows["model"].str.split("+").str[1:].str.join(""))) == [
        "",
        "label_ids",
    ]


def test_merged_classes_are_counted_beside_the_classes(citymask, photos, model, output, tmp_path):
    mapping = tmp_path / "open.csv"
    mapping.write_text("class,merged\nSky,open\nRoad,open\n")
    done = citymask("run", photos, "-o", output.path, "--model", model, "--merge", mapping)
    assert done.exit_code == 0, done.output
    rows = output.rows
    assert (rows["merged_open"] == rows["pixels_sky"] + rows["pixels_road"]).all()
    assert (rows["merged_tree_top"] == rows["pixels_tree_top"]).all()
    for document in (output.summary, output.summary["groups"]["lund"]):
        assert [entry["name"] for entry in document["merged"]] == ["open", "Tree top"]
        merged = document["merged"][0]
        assert merged["pixels"] == rows["merged_open"].sum()
        assert merged["fraction"] == pytest.approx(rows["merged_open"].sum() / (3 * 96 * 64))
        assert merged["images"] == (rows["merged_open"] > 0).sum()
        assert len(document["classes"]) == 3
    with open(output.path / "summary.csv", newline="") as file:
        table = [row for row in csv.DictReader(file) if not row["group"]]
    assert [row["level"] for row in table] == ["classes"] * 3 + ["merged"] * 2
    assert table[3]["class"] == "open" and int(table[3]["pixels"]) == merged["pixels"]


def test_a_mapping_given_later_summarises_all_rows(citymask, photos, model, output, tmp_path):
    arguments = ("run", photos, "-o", output.path, "--model", model)
    assert citymask(*arguments).exit_code == 0
    assert "merged" not in output.summary
    mapping = tmp_path / "open.csv"
    mapping.write_text("class,merged\nSky,open\nRoad,open\n")
    assert citymask(*arguments, "--merge", mapping).exit_code == 0
    assert output.summary["images"] == {"done": 3, "failed": 0, "skipped": 3}
    assert sum(entry["pixels"] for entry in output.summary["merged"]) == 3 * 96 * 64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("class,merged\nBush,green\n", "line 2: unknown class 'Bush'"),
        ("from,to\n", "found the columns"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_bad_mapping_ends_with_one_line(
    citymask, photos, model, output, tmp_path, content, message
):
    mapping = tmp_path / "bad.csv"
    if content:
        mapping.write_text(content)
    done = citymask("run", photos, "-o", output.path, "--model", model, "--merge", mapping)
    assert done.exit_code == 2
    assert message in done.output and str(mapping) in done.output
    assert not (output.path / "statistics").exists()


def test_the_class_table_of_a_package_survives(model):
    described = json.loads((model / "model.json").read_text())["classes"]
    assert [entry["label_id"] for entry in described] == list(LABEL_IDS)
    assert load_package(model).classes.label_ids == LABEL_IDS
