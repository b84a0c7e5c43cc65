"""Precisions: every row says which one made its mask, and an OUT that mixes them says so."""

import json
import sys
from pathlib import Path

import duckdb
import geopandas
import pytest
from PIL import ExifTags, Image

from tests.reports import Report

LOCATED = Image.Exif()
LOCATED.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (48, 30, 0), 3: "E", 4: (9, 30, 0)})
F32 = ("--precision", "f32")
INT8 = ("--precision", "int8")


@pytest.fixture(scope="module")
def photos(make_photo, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        make_photo(folder / f"{number}.jpg", seed=number, exif=LOCATED)
    return folder


@pytest.fixture(scope="module")
def run(citymask, photos, int8_model):
    """A function that runs over the photos, into a folder."""

    def run(out: Path, *options):
        done = citymask("run", photos, "-o", out, "--model", int8_model, *options)
        assert done.exit_code == 0, done.output
        return done

    return run


@pytest.fixture(scope="module")
def mixed(run, photos, make_photo, tmp_path_factory, output_at):
    """The output of a run in one precision and, over one more photo, one in another; what it said.

    The three photos of the others are done in single precision, the fourth in int8.
    """
    out = tmp_path_factory.mktemp("mixed")
    first = run(out, *F32)
    make_photo(photos / "3.jpg", seed=3, exif=LOCATED)
    second = run(out, *INT8)
    return output_at(out), first, second


def test_each_row_says_which_precision_made_its_mask_by_the_same_model(mixed):
    out, *_ = mixed
    assert list(out.rows["precision"]) == ["f32", "f32", "f32", "int8"]
    assert out.rows["model"].nunique() == 1


def test_where_tensorflow_stands_in_for_openvino_rows_have_its_precision(
    run, tmp_path, output_at, monkeypatch
):
    monkeypatch.setitem(sys.modules, "openvino", None)
    said = run(tmp_path / "out", "--batch-size", 2).stderr
    assert "TensorFlow is used instead of OpenVINO" in said
    assert set(output_at(tmp_path / "out").rows["precision"]) == {"f32"}


def test_the_summary_counts_all_rows_and_each_record_those_of_its_run(mixed):
    out, *_ = mixed
    assert out.summary["precisions"] == {"int8": 1, "f32": 3}
    of_runs = [(record["precisions"], record["output_precisions"]) for record in out.runs]
    assert of_runs == [({"f32": 3}, {"f32": 3}), ({"int8": 1}, {"int8": 1, "f32": 3})]
    assert [record["options"]["precision"] for record in out.runs] == ["f32", "int8"]


def test_a_run_says_before_and_after_that_precisions_are_mixed(mixed):
    out, first, second = mixed
    assert "recision" not in first.output
    before = "Masks that are done stay as they are (f32 3); new ones are made in int8. --force"
    assert before in second.stderr
    after = (
        f"Masks in {out.path} by precision: f32 3, int8 1; --force --precision f32 makes them alike"
    )
    assert after in second.stdout


def test_a_night_and_a_dry_run_say_it_too(mixed, photos, citymask, int8_model, tmp_path):
    out, *_ = mixed
    config = tmp_path / "nightly.yaml"
    config.write_text(
        f"inputs: ['{photos}']\noutput: '{out.path}'\nmodel: '{int8_model}'\nprecision: f32\n"
    )
    before = "Masks that are done stay as they are (int8 1); new ones are made in f32"
    assert before in citymask("nightly", config, "--dry-run").stderr
    night = citymask("nightly", config)
    assert before in night.stderr
    assert f"Masks in {out.path} by precision: f32 3, int8 1" in night.stdout


def test_exports_carry_it(mixed, citymask):
    out, *_ = mixed
    formats = ("--format", "geoparquet", "--format", "bigquery")
    done = citymask("export", out.path, *formats)
    assert done.exit_code == 0, done.output
    exported = geopandas.read_parquet(out.path / "exports" / "geoparquet").set_index("image")
    assert exported["precision"].to_dict() == out.rows["precision"].to_dict()
    files = out.path / "exports" / "bigquery" / "*" / "*.parquet"
    counted = duckdb.sql(f"SELECT precision, count(*) FROM '{files}' GROUP BY ALL ORDER BY ALL")
    assert counted.fetchall() == [("f32", 3), ("int8", 1)]


def test_the_report_counts_it(mixed, citymask):
    out, *_ = mixed
    done = citymask("report", out.path)
    assert done.exit_code == 0, done.output
    assert Report(out.path / "report").data["totals"]["precisions"] == {"int8": 1, "f32": 3}


def test_the_other_commands_take_both_kinds_of_rows(mixed, citymask):
    out, *_ = mixed
    before = out.rows["precision"].to_dict()
    for command in ("compact", "verify", "indicators"):
        done = citymask(command, out.path)
        assert done.exit_code == 0, done.output
    assert out.rows["precision"].to_dict() == before


def test_force_makes_them_alike(run, mixed):
    out, *_ = mixed
    again = run(out.path, "--force", *F32)
    assert out.summary["precisions"] == {"f32": 4}
    assert set(out.rows["precision"]) == {"f32"}
    assert "recision" not in again.output


def test_what_is_done_is_not_done_again_in_another_precision(mixed, run, tiny_model):
    """Nor by the package that `citymask quantise` made the model from, which has no int8."""
    out, *_ = mixed
    masks = {name: (out.path / name).read_bytes() for name in out.masks}
    for options in (INT8, ("--model", tiny_model)):
        assert "nothing new" in run(out.path, *options).stdout
    assert {name: (out.path / name).read_bytes() for name in out.masks} == masks
    assert json.loads((out.path / "summary.json").read_text())["precisions"] == {"f32": 4}
