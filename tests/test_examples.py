"""The programs under `examples/` run as their first lines say."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.classes import ClassTable

ROOT = Path(__file__).resolve().parents[1]


def test_shares_per_group_prints_a_row_per_class_and_country(tmp_path, capfd):
    program = runpy.run_path(str(ROOT / "examples" / "shares_per_group.py"))
    program["main"](str(ROOT / "demo" / "photos"), str(tmp_path / "out"))
    lines = capfd.readouterr().out.splitlines()
    groups = [line.split(",")[0] for line in lines if line.count(",") == 8]
    assert groups == ["group"] + [""] * 11 + ["france"] * 11 + ["germany"] * 11 + ["italy"] * 11


@pytest.fixture(scope="module")
def draw_phantoms():
    return runpy.run_path(str(ROOT / "examples" / "phantoms.py"))["main"]


@pytest.fixture(scope="module")
def phantoms(draw_phantoms, tmp_path_factory):
    """Slices of eight synthetic patients."""
    folder = tmp_path_factory.mktemp("phantoms")
    draw_phantoms(str(folder), patients=8)
    return folder


def files(folder):
    return {str(path.relative_to(folder)): path for path in folder.rglob("*.*")}


def test_phantoms_have_the_layout_of_labelled_photos(phantoms):
    assert ClassTable.load(phantoms / "classes.csv").names == ("No tumour", "Tumour")
    photos, labels = list(phantoms.glob("*/*.jpg")), list(phantoms.glob("*annot/*.png"))
    assert len(photos) == len(labels) == 80
    assert len(files(phantoms)) == 161
    for photo in photos:
        label = phantoms / f"{photo.parent.name}annot" / f"{photo.stem}.png"
        with Image.open(photo) as pixels, Image.open(label) as ids:
            assert (pixels.mode, ids.mode) == ("RGB", "L")
            assert pixels.size == ids.size == (128, 128)
            assert set(np.unique(ids)) <= {0, 1}


def test_no_patient_is_in_both_splits(phantoms):
    train, val = (
        {path.name.partition("_")[0] for path in (phantoms / split).iterdir()}
        for split in ("train", "val")
    )
    assert (len(train), len(val)) == (6, 2)
    assert not train & val


def test_a_few_of_the_pixels_and_slices_show_a_lesion_brighter_than_the_rest(phantoms):
    shown = []
    for name, path in files(phantoms).items():
        if name.endswith(".png"):
            photo = phantoms / name.replace("annot", "").replace(".png", ".jpg")
            with Image.open(path) as ids, Image.open(photo) as pixels:
                lesion, values = np.array(ids) == 1, np.array(pixels).astype(int)
            shown.append(lesion.mean())
            if lesion.any():
                greener = values[..., 1] - values[..., 0]
                assert greener[lesion].mean() > greener[~lesion].mean() + 15
    assert 0.001 < np.mean(shown) < 0.03
    assert 0.1 < np.mean(np.array(shown) > 0) < 0.6


def test_the_same_seed_draws_the_same_phantoms(draw_phantoms, phantoms, tmp_path):
    for seed in (0, 1):
        draw_phantoms(str(tmp_path / str(seed)), patients=4, seed=seed)
    again, other = files(tmp_path / "0"), files(tmp_path / "1")
    expected = files(phantoms)
    assert len(again) == len(other) == 81
    assert all(path.read_bytes() == expected[name].read_bytes() for name, path in again.items())
    assert sum(again[n].read_bytes() != other[n].read_bytes() for n in again) > 40
