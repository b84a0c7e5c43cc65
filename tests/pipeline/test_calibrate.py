"""`citymask calibrate` and runs with what it wrote: confidences, uncertainties, odd photos."""

import json
import re
import shutil

import duckdb
import numpy as np
import pytest
from PIL import Image

from models.classes import CLASS_SETS
from models.packages import load_package
from tests.drawn_labels import TEMPERATURE, draw_labels, sure_model

COLUMNS = ["uncertainty", "unlike_training"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return sure_model(tmp_path_factory.mktemp("models") / "sure")


@pytest.fixture(scope="module")
def data(model, make_photo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    draw_labels(folder, model, make_photo)
    shutil.copy(CLASS_SETS / "cityscapes.csv", folder / "classes.csv")
    return folder


@pytest.fixture(scope="module")
def calibrated(citymask, model, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "calibrated"
    done = citymask("calibrate", model.path, "--data", data, "--output", folder)
    assert done.exit_code == 0, done.output
    assert f"temperature {load_package(folder).calibration.temperature:.3f}" in done.output
    return folder


@pytest.fixture(scope="module")
def photos(make_photo, tmp_path_factory):
    """Two photos as in the calibration, and one that shows nothing."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in (100, 101):
        make_photo(folder / "usual" / f"{seed}.png", 90, 66, seed)
    (folder / "odd").mkdir()
    grey = np.full((66, 90, 3), np.round(np.array([0.485, 0.456, 0.406]) * 255), np.uint8)
    Image.fromarray(grey).save(folder / "odd" / "grey.png")
    return folder


@pytest.fixture(scope="module")
def out(citymask, calibrated, photos, output_at, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    done = citymask("run", photos, "-o", folder, "--model", calibrated)
    assert done.exit_code == 0, done.output
    return output_at(folder)


def flags(folder) -> dict[str, tuple]:
    query = f"""
        select image, uncertainty, unlike_training
        from read_parquet('{folder}/statistics/*.parquet', union_by_name = true)
    """
    return {image: tuple(values) for image, *values in duckdb.sql(query).fetchall()}


def test_a_photo_of_which_the_network_is_unsure_is_unlike_the_others(out):
    found = flags(out.path)
    uncertainty, unlike = found.pop("odd/grey.png")
    assert unlike and 0.9 < uncertainty <= 1
    for uncertainty, unlike in found.values():
        assert not unlike and 0 < uncertainty < 0.9


def test_the_summary_counts_such_photos_in_all_and_per_group(out):
    assert out.summary["images"] == {"done": 3, "failed": 0, "skipped": 0, "unlike": 1}
    groups = out.summary["groups"]
    assert {name: group["images"]["unlike"] for name, group in groups.items()} == {
        "odd": 1, "usual": 0,
    }  # fmt: skip


def test_masks_and_model_id_are_those_of_the_model_before(
    citymask, model, photos, out, output_at, tmp_path
):
    plain = output_at(tmp_path / "plain")
    done = citymask("run", photos, "-o", plain.path, "--model", model.path)
    assert done.exit_code == 0, done.output
    assert not set(COLUMNS) & set(plain.rows.columns)
    assert "unlike" not in plain.summary["images"]
    assert set(plain.rows["model"]) == set(out.rows["model"])
    for mask in plain.masks:
        assert (plain.path / mask).read_bytes() == (out.path / mask).read_bytes()


def test_photos_done_before_the_calibration_stay_as_they_are(
    citymask, model, calibrated, make_photo, photos, output_at, tmp_path
):
    archive, out = tmp_path / "archive", output_at(tmp_path / "out")
    make_photo(archive / "old.png", 90, 66, 102)
    citymask("run", archive, "-o", out.path, "--model", model.path)
    (archive / "grey.png").write_bytes((photos / "odd" / "grey.png").read_bytes())
    done = citymask("run", archive, "-o", out.path, "--model", calibrated)
    assert done.exit_code == 0, done.output
    assert out.summary["images"] == {"done": 2, "failed": 0, "skipped": 1, "unlike": 1}
    found = flags(out.path)
    assert found["old.png"] == (None, None) and found["grey.png"][1]
    again = citymask("run", archive, "-o", out.path, "--model", calibrated)
    assert "nothing new" in again.stdout
    assert out.summary["images"]["unlike"] == 1
    for command in ("verify", "compact", "report"):
        done = citymask(command, out.path)
        assert done.exit_code == 0, done.output


def test_windows_have_no_uncertainty(citymask, calibrated, photos, output_at, tmp_path):
    """The threshold is that of whole photos at the network's size."""
    out = output_at(tmp_path / "out")
    done = citymask("run", photos, "-o", out.path, "--model", calibrated, "--windows", "1")
    assert done.exit_code == 0, done.output
    assert not set(COLUMNS) & set(out.rows.columns)


def test_panoramas_have_one(citymask, calibrated, make_photo, output_at, tmp_path):
    make_photo(tmp_path / "in" / "a.png", 256, 128)
    out = output_at(tmp_path / "out")
    line = ["run", tmp_path / "in", "-o", out.path, "--model", calibrated]
    done = citymask(*line, "--projection", "equirectangular")
    assert done.exit_code == 0, done.output
    assert out.rows["uncertainty"].notna().all()


def test_a_mapping_goes_with_the_data_it_stands_behind(citymask, model, data, tmp_path):
    names = model.classes.names
    rows = [f"{value},{name}" for value, name in enumerate(names)]
    (tmp_path / "mapping.csv").write_text("\n".join(["value,class", *rows]))
    new = tmp_path / "new"
    sets = ["--data", f"{data}:{tmp_path / 'mapping.csv'}", "--data", data]
    done = citymask("calibrate", model.path, *sets, "--output", new)
    assert done.exit_code == 0, done.output
    found = load_package(new).calibration
    assert found.temperature == pytest.approx(TEMPERATURE, rel=0.05)
    assert [text.split()[0] for text in found.made["data"]] == ["24", "24"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "unknown model 'nope'"),
        (["MODEL", "--split", "test"], "test: no such folder"),
        (["MODEL", "--data", "DATA:none.csv"], "none.csv"),
        (["MODEL", "--data", "DATA:wrong.csv"], "wrong.csv, line 2: unknown class 'Lawn'"),
        (["default"], "the labels have the classes road, sidewalk, building, .* the model has Sky"),
    ],
)
def test_mistakes_end_with_one_line_and_exit_code_2(
    citymask, model, data, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.csv").write_text("value,class\n0,Lawn\n")
    given = [a.replace("MODEL", str(model.path)).replace("DATA", str(data)) for a in arguments]
    done = citymask("calibrate", *given, "--data", data, "--output", tmp_path / "new")
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert re.search(message, line)
    assert not (tmp_path / "new").exists()


def test_the_description_is_part_of_the_models_card(out):
    (card,) = (out.path / "models").glob("*.json")
    assert json.loads(card.read_text())["calibration"]["temperature"] > 1
