"""`citymask report` of all kinds of archives and stores, at the end of runs, and when it fails."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from signal import Signals

import duckdb
import h3
import numpy as np
import pytest
import yaml

from benchmarks.report import write_archive
from models.packages import load_package
from pipeline.reports import report_on
from pipeline.runs.request import locked
from tests.gcs_server import GcsServer
from tests.reports import Report
from tests.shard_files import write_photo_records, write_tar
from transforms.reporting import mapping

BUCKET = "city-bucket"
PAGE = Path(__file__).parents[2] / "transforms" / "reporting" / "page"


@pytest.fixture
def photos(make_photo, tmp_path) -> Path:
    """Three photos in two groups, without positions."""
    for seed, name in enumerate(("lund/0.jpg", "lund/1.png", "trier/2.jpg")):
        make_photo(tmp_path / "photos" / name, seed=seed)
    return tmp_path / "photos"


@pytest.fixture
def run(citymask, tiny_model, output):
    """A function that runs citymask into the output folder and expects an exit code."""

    def run(*arguments, code: int = 0):
        done = citymask("run", *arguments, "--output", output.path, "--model", tiny_model)
        assert done.exit_code == code, done.output
        return done

    return run


@pytest.fixture
def report(citymask, output):
    """A function that writes the report and reads it back."""

    def report(*options) -> Report:
        written = citymask("report", output.path, *options)
        assert written.exit_code == 0, written.output
        return Report(output.path / "report")

    return report


def shown(report: Report) -> dict[str, bool]:
    """Whether there is a picture of each photo of the gallery; its mask is always there."""
    gallery = report.data["gallery"]
    for photo in gallery:
        assert report.mask(photo["id"]).max() < 3
        assert (f"photos/{photo['id']}.jpg" in report.files) is photo["photo"]
        assert f"photos/{photo['id']}.overlay.jpg" in report.files
    return {photo["image"]: photo["photo"] for photo in gallery}


def files_in(folder: Path) -> dict[str, bytes]:
    """The bytes of the files below a folder, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_without_positions_there_is_no_map(run, report, photos):
    run(photos)
    data = report().data
    assert data["map"] is None and data["images"]["positioned"] == 0
    assert [group["name"] for group in data["groups"]["rows"]] == ["lund", "trier"]
    assert {photo["position"] for photo in data["gallery"]} == {None}


def test_photos_in_shards_are_found_again(run, report, photos, tmp_path):
    shards = tmp_path / "shards"
    write_tar(shards / "a #1.tar", files_in(photos).items())
    write_photo_records(shards / "b.tfrecord", files_in(photos))
    run(shards)
    assert shown(report()) == {
        f"{shard}/{name}": True
        for shard in ("a #1.tar", "b.tfrecord")
        for name in ("lund/0.jpg", "lund/1.png", "trier/2.jpg")
    }


def test_a_photo_that_is_gone_or_has_changed_costs_its_picture_only(
    run, report, photos, make_photo
):
    run(photos)
    (photos / "lund" / "0.jpg").unlink()
    make_photo(photos / "lund" / "1.png", seed=9)
    os.utime(photos / "lund" / "1.png", ns=(1, 1))
    assert shown(report()) == {"lund/0.jpg": False, "lund/1.png": False, "trier/2.jpg": True}


def test_a_shard_that_is_gone_costs_its_pictures_only(run, report, photos, tmp_path):
    shard = write_tar(tmp_path / "a.tar", files_in(photos).items())
    run(shard)
    shard.unlink()
    assert set(shown(report()).values()) == {False}


def test_a_mask_that_is_gone_shows_no_class_and_is_named(run, citymask, photos, output):
    run(photos)
    (output.path / "masks" / "lund" / "0.jpg.png").unlink()
    written = citymask("report", output.path)
    assert written.exit_code == 0
    assert "1 of 3 masks of the gallery cannot be read" in written.stderr
    assert (Report(output.path / "report").mask("1") == 255).all()


def test_masks_of_label_ids_become_positions_of_classes(
    citymask, run, report, photos, tiny_model, tmp_path, output_at
):
    run(photos)
    plain = report()
    package = load_package(tiny_model)
    classes = package.classes.classes
    labelled = tmp_path / "labelled"
    shutil.copytree(tiny_model, labelled)
    description = json.loads((labelled / "model.json").read_text())
    for entry, label_id in zip(description["classes"], (23, 21, 7), strict=True):
        entry["label_id"] = label_id
    (labelled / "model.json").write_text(json.dumps(description))
    out = output_at(tmp_path / "labelled-out")
    done = citymask("run", photos, "--output", out.path, "--model", labelled, "--label-ids")
    assert done.exit_code == 0 and len(classes) == 3
    assert citymask("report", out.path).exit_code == 0
    for identity in ("1", "2", "3"):
        found = Report(out.path / "report").mask(identity)
        assert np.array_equal(found, plain.mask(identity))


def test_each_model_in_an_output_folder_has_a_report(citymask, run, report, photos, output):
    run(photos)
    done = citymask("run", photos / "lund", "--output", output.path)
    assert done.exit_code == 0
    latest, tiny = report().data, report("--model", "tiny").data
    assert (latest["model"]["name"], latest["images"]["done"]) == ("default", 2)
    assert (tiny["model"]["name"], tiny["images"]["done"]) == ("tiny", 3)
    assert [night["shares"] is None for night in tiny["nights"]] == [False, True]
    assert {len(photo["values"]) for photo in tiny["gallery"]} == {len(tiny["measures"])}
    assert [photo["photo"] for photo in tiny["gallery"]] == [True] * 3
    refused = citymask("report", output.path, "--model", "other")
    assert refused.exit_code == 2 and "no results of the model 'other'" in refused.output


def test_an_archive_of_failures_only_still_has_a_page(run, report, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no photo")
    run(tmp_path / "photos", code=3)
    data = report().data
    none = dict.fromkeys(("done", "skipped", "positioned"), 0)
    assert data["images"] == {**none, "failed": 1, "unlike": None}
    assert (data["gallery"], data["map"], data["groups"]["rows"]) == ([], None, [])
    assert set(data["totals"]["values"]) == {None}
    assert data["failures"][0]["examples"] == ["bad.jpg"]


def test_a_photo_that_was_done_at_last_has_not_failed(run, report, photos, make_photo):
    (photos / "lund" / "0.jpg").write_bytes(b"no photo")
    (photos / "bad.jpg").write_bytes(b"no photo")
    run(photos)
    make_photo(photos / "lund" / "0.jpg")
    run(photos)
    data = report().data
    assert (data["images"]["done"], data["images"]["failed"]) == (3, 1)
    assert [kind["examples"] for kind in data["failures"]] == [["bad.jpg"]]
    assert data["failures"][0]["count"] == 1, "two tries of one photo are one failure"


def test_a_record_that_is_none_of_a_run_is_passed_over(run, report, photos, output):
    run(photos)
    strange = {"run_id": "strange", "started_at": "2099-01-01T00:00:00", "images": {"done": "all"}}
    (output.path / "runs" / "strange.json").write_text(json.dumps(strange))
    assert len(report().data["nights"]) == 1


def test_many_photos_are_hexagons_on_the_map(citymask, output):
    write_archive(output.path, mapping.MOST_POINTS + 1)
    data_rows = duckdb.sql(
        f"SELECT latitude, longitude, pixels_tree / (width * height) AS tree "
        f"FROM '{output.path}/statistics/*.parquet'"
    ).df()
    assert citymask("report", output.path, "--gallery", 20).exit_code == 0
    data = Report(output.path / "report").data
    chart = data["map"]
    assert chart["kind"] == "hexagons" and len(data["gallery"]) == 20
    data_rows["cell"] = [
        h3.latlng_to_cell(*position, chart["resolution"])
        for position in zip(data_rows.latitude, data_rows.longitude, strict=True)
    ]
    cells = data_rows.groupby("cell").tree
    features = {feature["name"]: feature for feature in chart["features"]}
    assert features.keys() == set(cells.groups)
    tree = [measure["key"] for measure in data["measures"]].index("tree")
    for name, feature in features.items():
        assert feature["images"] == cells.size()[name]
        assert feature["values"][tree] == pytest.approx(cells.mean()[name], abs=0.51e-4)
        assert np.allclose(feature["cell"], h3.cell_to_boundary(name), atol=1e-6)
        assert np.allclose(feature["position"], h3.cell_to_latlng(name), atol=1e-6)
    standing = {
        h3.latlng_to_cell(*photo["position"], chart["resolution"]) for photo in data["gallery"]
    }
    assert {name for name, feature in features.items() if feature["photo"]} == standing


def test_the_older_report_goes_with_its_photos_and_nothing_else(run, report, photos, output):
    run(photos)
    first = report()
    (first.path / "notes.txt").write_text("mine")
    (photos / "lund" / "0.jpg").unlink()
    second = report("--gallery", 1)
    static = {p.relative_to(PAGE).as_posix() for p in PAGE.rglob("*") if p.is_file()}
    assert set(second.files) - static == {
        "data.js", "notes.txt", "photos/1.mask.js", "photos/1.overlay.jpg",
        *(["photos/1.jpg"] if second.data["gallery"][0]["photo"] else []),
    }  # fmt: skip


def test_rows_that_cannot_be_read_leave_the_older_report(run, report, citymask, photos, output):
    run(photos)
    older = report()
    before = {name: (older.path / name).read_bytes() for name in older.files}
    (output.path / "statistics" / "damaged.parquet").write_bytes(b"PAR1 no more")
    failed = citymask("report", output.path)
    assert failed.exit_code == 2
    (line,) = failed.stderr.splitlines()
    assert "damaged.parquet: cannot be read" in line and "citymask verify" in line
    assert {name: (older.path / name).read_bytes() for name in older.files} == before


def test_a_report_that_cannot_be_finished_has_no_data(run, report, citymask, photos, output):
    run(photos)
    folder = report().path
    (folder / "assets" / "report.css").unlink()
    (folder / "assets" / "report.css").mkdir()  # Where a file has to be written.
    assert citymask("report", output.path).exit_code == 1
    assert not (folder / "data.js").exists()


def test_a_run_writes_the_report_when_asked_to(run, photos, output):
    done = run(photos, "--report")
    data = Report(output.path / "report").data
    assert data["images"]["done"] == 3 and len(data["nights"]) == 1
    assert f"Report in {output.path / 'report/index.html'}" in done.output
    run(photos)
    assert len(Report(output.path / "report").data["nights"]) == 1


def test_a_report_that_fails_changes_nothing_of_the_run(run, photos, output):
    output.path.mkdir()
    (output.path / "report").write_text("a file in its place")
    failed = run(photos, "--report", code=1)
    assert "Error: the report could not be written: " in failed.stderr
    assert len(output.rows) == 3 and len(output.runs) == 1
    assert (output.path / "report").read_text() == "a file in its place"


def test_an_interrupted_run_ends_without_one():
    assert report_on({}, Signals.SIGTERM) == ""


def test_a_job_that_is_left_to_itself_writes_no_report(citymask, output):
    refused = citymask(
        "run", "gs://town/photos", "--output", "gs://town/out", "--report", "--no-wait"
    )
    assert refused.exit_code == 2 and "`citymask report OUT`" in refused.output


@pytest.mark.parametrize(
    "wanted", [True, {"write": True, "gallery": 2, "tiles": "https://tiles.example/{z}/{x}/{y}"}]
)
def test_a_night_writes_the_report_when_its_file_says_so(
    citymask, photos, output, tiny_model, tmp_path, wanted
):
    config = {
        "inputs": [str(photos)], "output": str(output.path), "model": str(tiny_model),
        "report": wanted,
    }  # fmt: skip
    (tmp_path / "nightly.yaml").write_text(yaml.safe_dump(config))
    done = citymask("nightly", tmp_path / "nightly.yaml")
    assert done.exit_code == 0, done.output
    data = Report(output.path / "report").data
    assert data["nights"][0]["alarms"] == []
    assert len(data["gallery"]) == (3 if wanted is True else 2)


def test_alarms_of_a_night_are_told_in_words(
    citymask, photos, output, tiny_model, tmp_path, make_photo
):
    config = {
        "inputs": [str(photos)], "output": str(output.path), "model": str(tiny_model),
        "thresholds": {"drift": 0, "drift_images": 1}, "report": True,
    }  # fmt: skip
    (tmp_path / "nightly.yaml").write_text(yaml.safe_dump(config))
    assert citymask("nightly", tmp_path / "nightly.yaml").exit_code == 0
    make_photo(photos / "lund" / "3.jpg", seed=99, width=200)
    assert citymask("nightly", tmp_path / "nightly.yaml").exit_code == 3
    first, second = Report(output.path / "report").data["nights"]
    assert first["alarms"] == []
    assert second["alarms"] and all("of the pixels tonight" in a for a in second["alarms"])


def test_on_cloud_storage_it_is_the_same(
    citymask, photos, tiny_model, tmp_path, cloud_storage_at, output_at
):
    local = output_at(tmp_path / "out")
    arguments = ("--model", tiny_model, "--report")
    assert citymask("run", photos, "--output", local.path, *arguments).exit_code == 0
    with GcsServer(page_size=3) as server, cloud_storage_at(server.url):
        for path in sorted(p for p in photos.rglob("*") if p.is_file()):
            server.put(BUCKET, f"photos/{path.relative_to(photos)}", path.read_bytes())
        remote = f"gs://{BUCKET}/out"
        done = citymask("run", f"gs://{BUCKET}/photos", "--output", remote, *arguments)
        assert done.exit_code == 0, done.output
        server.put(BUCKET, "out/report/photos/999.jpg", b"stale")
        written = citymask("report", remote)
        assert written.exit_code == 0, written.output
        files = server.files(BUCKET, "out/report/")
        kinds = {
            name: server.buckets[BUCKET][f"out/report/{name}"].content_type
            for name in ("index.html", "data.js", "photos/1.jpg")
        }
    assert kinds == {
        "index.html": "text/html", "data.js": "text/javascript", "photos/1.jpg": "image/jpeg"
    }  # fmt: skip
    fetched = tmp_path / "fetched"
    for name, data in files.items():
        path = fetched / name.removeprefix("out/report/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    expected, found = Report(local.path / "report"), Report(fetched)
    assert found.files == expected.files
    changing = ("created_at", "nights", "settings")
    of_both = [
        {k: v for k, v in report.data.items() if k not in changing} for report in (found, expected)
    ]
    assert of_both[0] == of_both[1]


def test_indicators_and_tiles_may_be_others(run, report, citymask, photos, output, tmp_path):
    run(photos)
    file = tmp_path / "mine.yaml"
    file.write_text(
        "version: mine-3\n"
        "groups: {above: [sky], below: [road]}\n"
        "indicators: {depth: {name: Depth, of: [above], over: [below]}}\n"
    )
    url = "https://tiles.example/{z}/{x}/{y}.png"
    data = report("--indicators", file, "--tiles", url, "--attribution", "Their mappers").data
    assert data["indicators_version"] == "mine-3"
    assert data["measures"][-1]["key"] == "depth" and not data["measures"][-1]["share"]
    for options, reason in (
        (("--indicators", tmp_path / "none.yaml"), "cannot be read"),
        (("--tiles", "ftp://tiles.example/{z}/{x}/{y}"), "is not an http(s) URL"),
        (("--tiles", "https://tiles.example/{z}/{x}"), "lacks {y}"),
    ):
        refused = citymask("report", output.path, *options)
        assert refused.exit_code == 2 and reason in refused.output


def test_what_is_no_output_folder_is_refused(citymask, tmp_path, run, photos, output):
    for path in (tmp_path / "missing", tmp_path):
        refused = citymask("report", path)
        assert refused.exit_code == 2 and "no results" in refused.output
    assert not (tmp_path / "missing").exists()
    run(photos)
    with locked(str(output.path), "a run"):
        assert citymask("report", output.path).exit_code == 4


def test_nothing_of_a_report_is_imported_by_a_run_without_one():
    program = (
        "import sys; from pipeline.commands import run, nightly; "
        "print([name for name in ('h3', 'transforms.reporting.graph') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert printed.stdout == "[]\n", printed.stderr
