"""The judge: folds of labelled photos by place, and recipes measured on them."""

import json
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.folds import assign, city, list_pairs, prefix, write_folds
from benchmarks.judge import count_folds, table
from models.evaluation import MEASURES
from models.labelled_photos import list_split
from pipeline.commands.data_sets import DataSet

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("train", "val")


def write_pair(photos, labels, name, suffix=".jpg"):
    for folder, file in ((photos, f"{name}{suffix}"), (labels, f"{name}.png")):
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(folder / file)


def places(fold, split):
    return {prefix(path.name) for path in (fold / split).iterdir()}


@pytest.fixture
def photos(tmp_path):
    """Twelve photos of the places a to e, in two folders."""
    for place, number in (("a", 5), ("b", 3), ("c", 2), ("d", 1), ("e", 1)):
        for photo in range(number):
            write_pair(tmp_path / "in/photos", tmp_path / "in/labels", f"{place}_{photo}")
    return tmp_path / "in"


def test_each_place_is_left_out_once_and_never_trained_on(photos, tmp_path):
    write_folds(photos, tmp_path / "out", prefix, 3)
    left_out = Counter()
    for fold in sorted((tmp_path / "out").iterdir()):
        train, val = (list_split(fold, split, 1) for split in SPLITS)
        assert len(train) + len(val) == 12
        assert not places(fold, "train") & places(fold, "val")
        left_out.update(path.name for path in val.images)
    assert set(left_out.values()) == {1} and len(left_out) == 12


def test_folds_have_about_as_many_photos(photos, tmp_path):
    write_folds(photos, tmp_path / "out", prefix, 3)
    sizes = [len(list((tmp_path / f"out/fold-{fold}/val").iterdir())) for fold in (1, 2, 3)]
    assert sizes == [5, 4, 3]
    assert assign({"a": 5, "b": 3, "c": 2, "d": 1, "e": 1}, 2) == {
        "a": 0, "b": 1, "c": 1, "d": 0, "e": 1,
    }  # fmt: skip


def test_files_are_links_to_what_they_were_made_of(photos, tmp_path):
    write_folds(photos, tmp_path / "out", prefix, 2)
    link = tmp_path / "out/fold-1/val/a_0.jpg"
    assert link.is_symlink() and link.resolve() == (photos / "photos/a_0.jpg").resolve()


def test_the_splits_of_camvid_are_taken_together(tmp_path):
    for split, name in (("train", "x_1"), ("val", "x_2"), ("train", "y_1")):
        write_pair(tmp_path / split, tmp_path / f"{split}annot", name, suffix=".png")
    assert [path.stem for path in list_pairs(tmp_path)] == ["x_1", "x_2", "y_1"]
    write_folds(tmp_path, tmp_path / "out", prefix, 2)
    assert places(tmp_path / "out/fold-1", "val") == {"x"}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("05june05_static_street_boston__p1010736", "boston"),
        ("static_street_cambridge__p1010765", "boston"),
        ("nov7_static_outdoor__img_0569", "boston"),
        ("static_outdoor_street_city_cambridge_uk__IMG_8741", "cambridge_uk"),
        ("static_outdoor_road_mallorca_spain__IMG_0618", "mallorca"),
        ("static_palma_outdoor_august_2005__img_1", "mallorca"),
        ("static_coast_palafrugel_outdoor_spain__a", "static_coast_palafrugel_outdoor_spain"),
        ("spatial_envelope_256x256_static_8outdoorcategories__insidecity_boston305", "boston"),
        (
            "spatial_envelope_256x256_static_8outdoorcategories__street_par162",
            "spatial_envelope_256x256_static_8outdoorcategories",
        ),
    ],
)
def test_albums_of_one_city_are_one_place(name, place):
    assert city(name) == place


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--folds", "6"), "6 folds of 5 places"),
        (("--folds", "1"), "--folds 1: expected 2 or more"),
    ],
)
def test_folds_that_cannot_be_made_are_refused(photos, tmp_path, options, message):
    done = run_program("folds.py", "idd_lite", photos, tmp_path / "out", *options)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_photos_without_labels_and_old_folds_are_refused(photos, tmp_path):
    (photos / "labels/a_0.png").unlink()
    with pytest.raises(ValueError, match=r"labels/a_0\.png: no such label"):
        list_pairs(photos)
    with pytest.raises(ValueError, match="holds no photo in photos, train or val"):
        list_pairs(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="out exists; remove it"):
        write_folds(photos, tmp_path / "out", prefix, 2)


def test_the_real_data_sets_have_folds(shared_data, tmp_path):
    for name, folds in (("camvid", 3), ("facades", 3), ("idd_lite", 2)):
        done = run_program("folds.py", name, shared_data / name, tmp_path, "--folds", folds)
        assert done.returncode == 0, done.stderr
        sizes = [len(list((tmp_path / f"{name}/fold-{k + 1}/val").iterdir())) for k in range(folds)]
        assert sum(sizes) == {"camvid": 468, "facades": 740, "idd_lite": 1403}[name]
        assert len(done.stdout.splitlines()) == folds + 2


def document(*mious):
    """What `citymask evaluate --json` writes for some data sets."""
    sets = [{"images": 10, **dict.fromkeys(MEASURES, miou)} for miou in mious]
    return {"data_sets": sets} if len(sets) > 1 else sets[0]


def test_means_and_spreads_are_those_over_the_folds():
    rows = table(["here", "there"], [document(0.5, 0.1), document(0.7, 0.3), document(0.6, 0.5)])
    cells = {line.split("|")[1].strip(): line.split("|")[2:4] for line in rows.splitlines()[2:]}
    spread, of_means = statistics.stdev([0.5, 0.7, 0.6]), statistics.stdev([0.3, 0.5, 0.55])
    assert [cell.strip() for cell in cells["here"]] == ["30", f"0.6000 ± {spread:.4f}"]
    assert cells["there"][1].strip() == "0.3000 ± 0.2000"
    assert cells["mean"][1].strip() == f"0.4500 ± {of_means:.4f}"


def test_one_data_set_is_judged_as_several():
    rows = table(["here"], [document(0.5), document(0.7)])
    assert "| here | 20 | 0.6000 ± 0.1414 |" in rows


def test_data_sets_have_equally_many_folds(photos, tmp_path):
    for name, folds in (("two", 2), ("three", 3)):
        write_folds(photos, tmp_path / name, prefix, folds)
    two, three = (DataSet(name, str(tmp_path / name)) for name in ("two", "three"))
    assert count_folds([two, two]) == 2
    with pytest.raises(ValueError, match=r"equally many folds; .*two has 2, .*three has 3"):
        count_folds([two, three])
    with pytest.raises(ValueError, match="in has 0"):
        count_folds([DataSet("in", str(photos))])


def test_measured_folds_are_not_trained_again(photos, tmp_path):
    write_folds(photos, tmp_path / "folds", prefix, 2)
    for fold, miou in ((1, 0.2), (2, 0.4)):
        (tmp_path / f"fold-{fold}.json").write_text(json.dumps(document(miou)))
    done = run_program("judge.py", tmp_path, "--data", tmp_path / "folds", "--", "unet")
    assert done.returncode == 0, done.stderr
    assert "| folds | 20 | 0.3000 ± 0.1414 |" in done.stdout


def run_program(name, *arguments):
    program = [sys.executable, f"benchmarks/{name}", *map(str, arguments)]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120)
