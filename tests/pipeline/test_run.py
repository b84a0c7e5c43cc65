"""`citymask run` from end to end: what a user gets, and what each bad input gets."""

import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from models.classes import ClassTable
from models.packages import load_package, write_package
from pipeline import console
from pipeline.cli import main
from tests.made_models import make_model
from tests.peak_memory import peak_memory
from tests.shard_files import write_tar, write_tfrecord
from tests.waiting import until
from transforms import storage
from transforms.flow import progress
from transforms.output import stopping

CONSOLE_SCRIPT = Path(sys.executable).with_name("citymask")
CLASSES = ClassTable.of([("Sky", (0, 0, 255)), ("Tree top", (0, 128, 0)), ("Road", (9, 9, 9))])
"""The classes of the tiny model."""


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of few bytes whose header states any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    )


def lines_of_error(result) -> list[str]:
    """What a refused command line prints, without the usage hint."""
    lines = result.output.splitlines()
    return [line for line in lines if line and not line.startswith(("Usage:", "Try "))]


def closing_counts(printed: str) -> tuple[int, ...]:
    """Images done, failed and skipped, as a run prints them at its end."""
    counts = re.search(r"(\d+ images done|nothing new).* (\d+) failed, (\d+) skipped", printed)
    assert counts, printed
    done, failed, skipped = counts.groups()
    return int(done.split()[0].replace("nothing", "0")), int(failed), int(skipped)


@pytest.fixture(scope="module")
def city(tmp_path_factory, make_photo, citymask, tiny_model, output_at):
    """A small archive that has been run once: the folder of the archive and its output."""
    root = tmp_path_factory.mktemp("city")
    for number in range(3):
        make_photo(root / "in" / "lund" / f"{number}.jpg", 120, 80, seed=number)
    make_photo(root / "in" / "malmo" / "a.PNG", 60, 90, seed=9)
    make_photo(root / "in" / "top.webp", 50, 50, seed=8)
    (root / "in" / "Thumbs.db").write_bytes(b"thumbs")
    (root / "in" / "lund" / "broken.jpg").write_bytes(b"no photo")
    result = citymask("run", root / "in", "--output", root / "out", "--model", tiny_model)
    return root / "in", output_at(root / "out"), result


@pytest.fixture
def city_to_change(city, tmp_path, output_at):
    """The archive, put back after the test, and a copy of its output."""
    archive, output, _ = city
    shutil.copytree(archive, tmp_path / "kept")
    shutil.copytree(output.path, tmp_path / "out")
    yield archive, output_at(tmp_path / "out")
    shutil.rmtree(archive)
    shutil.copytree(tmp_path / "kept", archive)


class TestOutputs:
    def test_ends_with_0_and_a_table_of_classes(self, city):
        _, output, result = city
        assert result.exit_code == 0, result.output
        for name in CLASSES.names:
            assert name in result.output
        assert closing_counts(result.output) == (5, 1, 0)
        assert re.search(r"\d\.\d images/s", result.output)
        assert str(output.path) in result.output

    def test_there_is_a_row_and_a_mask_for_each_image(self, city):
        _, output, _ = city
        names = ["lund/0.jpg", "lund/1.jpg", "lund/2.jpg", "malmo/a.PNG", "top.webp"]
        assert list(output.rows["image"]) == names
        assert output.masks == [f"masks/{name}.png" for name in names]
        assert list(output.rows["mask"]) == output.masks

    def test_rows_follow_the_contract(self, city, tiny_model):
        archive, output, _ = city
        package = load_package(tiny_model)
        row = output.rows.loc["lund/1.jpg"]
        photo = archive / "lund" / "1.jpg"
        assert row["uri"] == str(photo)
        assert row["version"] == f"{photo.stat().st_size}-{photo.stat().st_mtime_ns}"
        assert (row["width"], row["height"]) == (120, 80)
        assert row["model"] == package.model_id
        assert package.fingerprint.startswith(row["model"].partition("@")[2])
        assert row["run_id"] == output.runs[0]["run_id"]
        assert row[["latitude", "longitude", "captured_at", "heading"]].isna().all()
        assert (row["pixels_sky"] + row["pixels_tree_top"] + row["pixels_road"]) == 120 * 80

    def test_opencv_reads_masks_whose_colours_and_counts_are_those_of_the_row(self, city):
        _, output, _ = city
        for _, row in output.rows.iterrows():
            seen = cv2.imread(str(output.path / row["mask"]))[..., ::-1]
            assert seen.shape == (row["height"], row["width"], 3)
            counts = [(seen == entry.color).all(2).sum() for entry in CLASSES.classes]
            assert counts == [row[f"pixels_{key}"] for key in CLASSES.keys]
            assert sum(counts) == row["width"] * row["height"]

    def test_masks_hold_class_ids_with_the_palette(self, city):
        _, output, _ = city
        with Image.open(output.path / "masks" / "malmo" / "a.PNG.png") as mask:
            assert (mask.mode, mask.size) == ("P", (60, 90))
            assert mask.getpalette()[:9] == [0, 0, 255, 0, 128, 0, 9, 9, 9]
            assert np.asarray(mask).max() < len(CLASSES)

    def test_failures_follow_the_contract(self, city):
        archive, output, _ = city
        (row,) = output.failures.to_dict("records")
        message = row.pop("message")
        assert "not an image" in message
        path = archive / "lund" / "broken.jpg"
        assert row == {
            "image": "lund/broken.jpg",
            "uri": str(path),
            "version": f"{path.stat().st_size}-{path.stat().st_mtime_ns}",
            "stage": "decode",
            "error": "DecodeError",
            "attempts": 1,
            "run_id": output.runs[0]["run_id"],
        }

    def test_the_summary_adds_up_the_rows(self, city):
        _, output, _ = city
        summary, rows = output.summary, output.rows
        assert summary["images"] == {"done": 5, "failed": 1, "skipped": 0}
        assert set(summary["groups"]) == {"lund", "malmo", "."}
        assert summary["groups"]["lund"]["images"] == {"done": 3, "failed": 1, "skipped": 0}
        for key, entry in zip(CLASSES.keys, summary["classes"], strict=True):
            pixels = rows[f"pixels_{key}"]
            assert entry["pixels"] == pixels.sum()
            assert entry["images"] == (pixels > 0).sum()
        assert [entry["name"] for entry in summary["classes"]] == list(CLASSES.names)
        assert sum(entry["fraction"] for entry in summary["classes"]) == pytest.approx(1)
        table = pd.read_csv(output.path / "summary.csv", keep_default_na=False)
        of_lund = table[(table["group"] == "lund") & (table["class"] == "Road")]
        assert of_lund["pixels"].item() == rows.loc[rows["group"] == "lund", "pixels_road"].sum()

    def test_the_run_record_says_what_was_done_with_what(self, city, tiny_model):
        archive, output, _ = city
        (record,) = output.runs
        assert record["fingerprint"] == load_package(tiny_model).fingerprint
        assert {"citymask", "python", "apache-beam", "tensorflow"} <= set(record["versions"])
        assert record["options"]["inputs"] == [str(archive)]
        images = record["images"]
        assert (images["found"], images["done"], images["failed"], images["skipped"]) == (
            6,
            5,
            1,
            0,
        )
        assert record["passed_over"] == {"not an image": 1}
        assert record["images_per_second"] > 0
        assert {"read", "decode", "infer", "encode", "write"} <= set(record["stages"])
        assert all(stage["seconds"] >= 0 for stage in record["stages"].values())
        (path,) = (output.path / "runs").iterdir()
        assert path.name == f"{record['run_id']}.json"

    def test_nothing_unfinished_is_left(self, city):
        _, output, _ = city
        assert [path.name for path in output.path.rglob(".*")] == [storage.WORK_FOLDER]
        assert list((output.path / storage.UNFINISHED).iterdir()) == []


class TestAnotherRun:
    def test_over_the_same_archive_does_nothing_and_says_so(
        self, city_to_change, citymask, tiny_model
    ):
        archive, output = city_to_change
        (archive / "lund" / "broken.jpg").unlink()
        rows = output.rows
        files = {p: p.stat().st_mtime_ns for p in output.path.rglob("*") if "masks" in str(p)}
        result = citymask("run", archive, "-o", output.path, "--model", tiny_model)
        assert result.exit_code == 0, result.output
        assert closing_counts(result.output) == (0, 0, 5)
        pd.testing.assert_frame_equal(output.rows, rows)
        assert files == {p: p.stat().st_mtime_ns for p in files}
        assert output.summary["images"] == {"done": 5, "failed": 0, "skipped": 5}
        assert [run["images"]["done"] for run in output.runs] == [5, 0]

    def test_over_a_grown_and_changed_archive_does_only_what_is_new(
        self, city_to_change, citymask, tiny_model, make_photo
    ):
        archive, output = city_to_change
        before = output.rows
        make_photo(archive / "lund" / "new.jpg", seed=20)
        make_photo(archive / "lund" / "0.jpg", 40, 30, seed=21)
        (archive / "lund" / "1.jpg").unlink()
        result = citymask("run", archive, "-o", output.path, "--model", tiny_model)
        assert closing_counts(result.output) == (2, 1, 3)
        rows = output.rows
        assert sorted(rows["image"]) == sorted([*before["image"], "lund/new.jpg"])
        changed = rows.loc["lund/0.jpg"]
        assert (changed["width"], changed["height"]) == (40, 30)
        last = rows["run_id"] == output.runs[-1]["run_id"]
        assert set(rows["image"][last]) == {"lund/new.jpg", "lund/0.jpg"}
        with Image.open(output.path / changed["mask"]) as mask:
            assert mask.size == (40, 30)
        assert output.failures["attempts"].max() == 2
        assert output.summary["images"] == {"done": 6, "failed": 1, "skipped": 3}


class TestAnotherModel:
    @pytest.fixture(scope="class")
    def other_model(self, tmp_path_factory):
        """A package of other classes, from a stranger with odd ideas of names."""
        return make_model(
            tmp_path_factory.mktemp("models") / "other",
            seed=11,
            name="../../other",
            mean=(0.5, 0.5, 0.5),
            std=(0.2, 0.2, 0.2),
            classes=ClassTable.of([("Water", (0, 0, 99)), ("[/]Land", (0, 99, 0))]),
        )

    def test_does_all_images_anew_and_keeps_the_results_of_the_first(
        self, city_to_change, citymask, tiny_model, other_model
    ):
        archive, output = city_to_change
        before, masks = output.rows, {m: (output.path / m).read_bytes() for m in output.masks}
        result = citymask("run", archive, "-o", output.path, "--model", other_model.path)
        assert result.exit_code == 0, result.output
        assert load_package(tiny_model).model_id in result.output
        assert "they are kept" in result.output
        assert closing_counts(result.output) == (5, 1, 0)

        rows = output.rows
        first = rows[rows["model"] == load_package(tiny_model).model_id]
        second = rows[rows["model"] == other_model.model_id]
        pd.testing.assert_frame_equal(first[before.columns], before, check_dtype=False)
        assert list(second["image"]) == list(before["image"])
        total = second["pixels_water"] + second["pixels____land"]
        assert (total == second["width"] * second["height"]).all()
        assert {m: (output.path / m).read_bytes() for m in masks} == masks
        assert not set(second["mask"]) & set(masks)
        for mask in second["mask"]:
            assert (output.path / mask).resolve().is_relative_to(output.path.resolve())
            assert (output.path / mask).is_file()
        assert [entry["name"] for entry in output.summary["classes"]] == ["Water", "[/]Land"]
        assert output.summary["images"]["done"] == 5

        again = citymask("run", archive, "-o", output.path, "--model", tiny_model)
        assert closing_counts(again.output) == (0, 1, 5)
        assert [entry["name"] for entry in output.summary["classes"]] == list(CLASSES.names)


@pytest.fixture(scope="module")
def messy(tmp_path_factory, make_photo, citymask, tiny_model, output_at):
    """One run over all that may be wrong with single images, with some good ones between."""
    root = tmp_path_factory.mktemp("messy")
    photos = root / "in" / "photos"
    good = make_photo(photos / "good.jpg", seed=1).read_bytes()
    (photos / "truncated.jpg").write_bytes(good[: len(good) // 2])
    (photos / "zero_bytes.png").write_bytes(b"")
    (photos / "movie.jpg").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(100))
    (photos / "text.jpg").write_bytes(b"not an image")
    (photos / "phone.heic").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(100))
    (photos / "bomb.png").write_bytes(png_that_claims(60_000, 60_000))
    (photos / "deleted.jpg").symlink_to(root / "nowhere.jpg")
    (photos / "unreadable.jpg").symlink_to("/proc/self/mem")
    Image.new("RGB", (1, 1), "white").save(photos / "dot.png")
    Image.linear_gradient("L").resize((10_000, 20)).save(photos / "strip.png")
    Image.linear_gradient("L").resize((12_000, 9_000)).save(photos / "huge.jpg")

    names = [
        ("../../climbs.jpg", good),
        ("/absolute.jpg", good),
        ("two\nlines.jpg", good),
        ("latin\udce91.jpg", good),
        ("n" * 251 + ".jpg", good),
        ("n" * 250 + "m.jpg", good),
        ("case.jpg", good),
        ("CASE.JPG", good),
    ]
    write_tar(root / "in" / "names.tar", names)

    cut = write_tar(root / "in" / "cut.tar", [("a.jpg", good), ("b.jpg", good), ("c.jpg", good)])
    with tarfile.open(cut) as archive:
        start = archive.getmember("b.jpg").offset_data
    cut.write_bytes(cut.read_bytes()[: start + 50])

    records = root / "in" / "city.tfrecord"
    name = "image/filename"
    write_tfrecord(
        records,
        [
            {"image/encoded": good, name: b"first.jpg"},
            {"image/encoded": good, name: b"damaged.jpg"},
            {name: b"without.jpg"},
            {"image/encoded": good, name: b"last.jpg"},
        ],
    )
    data = bytearray(records.read_bytes())
    first = struct.unpack_from("<Q", data)[0]
    second = 12 + first + 4
    data[second + 12 + struct.unpack_from("<Q", data, second)[0] // 2] ^= 1
    records.write_bytes(data)

    with peak_memory() as peak:
        result = citymask("run", root / "in", "--output", root / "out", "--model", tiny_model)
    return output_at(root / "out"), result, peak, start


class TestBadImages:
    """Each costs one row, never its neighbours, never the run."""

    def test_the_run_goes_on_to_the_end(self, messy):
        output, result, _, _ = messy
        assert result.exit_code == 0, result.output
        assert output.runs[0]["images"]["found"] == len(output.rows) + len(output.failures)

    @pytest.mark.parametrize(
        ("image", "stage"),
        [
            ("truncated.jpg", "decode"),
            ("zero_bytes.png", "decode"),
            ("movie.jpg", "decode"),
            ("text.jpg", "decode"),
            ("phone.heic", "decode"),
            ("deleted.jpg", "read"),
            ("unreadable.jpg", "read"),
        ],
    )
    def test_what_is_no_readable_photo_gets_a_failure_row(self, messy, image, stage):
        output, _, _, _ = messy
        failure = output.failures.loc[f"photos/{image}"]
        assert failure["stage"] == stage
        assert failure["message"]
        assert f"photos/{image}" not in output.rows.index
        assert f"masks/photos/{image}.png" not in output.masks

    def test_a_decompression_bomb_is_refused_before_its_pixels_are_allocated(self, messy):
        output, _, peak, _ = messy
        failure = output.failures.loc["photos/bomb.png"]
        assert failure["stage"] == "decode"
        assert "60000 x 60000" in failure["message"] and "--max-pixels" in failure["message"]
        assert max(peak, default=0) < 60_000 * 60_000

    @pytest.mark.parametrize(
        ("image", "size"),
        [("dot.png", (1, 1)), ("strip.png", (10_000, 20)), ("huge.jpg", (12_000, 9_000))],
    )
    def test_a_photo_of_any_size_gets_a_mask_of_that_size(self, messy, image, size):
        output, _, _, _ = messy
        row = output.rows.loc[f"photos/{image}"]
        assert (row["width"], row["height"]) == size
        mask = cv2.imread(str(output.path / row["mask"]), cv2.IMREAD_UNCHANGED)
        assert mask.shape[1::-1] == size
        assert sum(row[f"pixels_{key}"] for key in CLASSES.keys) == size[0] * size[1]

    def test_memory_stays_bounded_by_the_largest_photo(self, messy):
        _, _, peak, _ = messy
        if not peak:
            pytest.skip("this system does not tell the peak of a part of a process")
        assert peak[0] < 3 * 12_000 * 9_000

    def test_of_a_truncated_tar_the_whole_members_are_done(self, messy):
        output, _, _, start = messy
        assert "cut.tar/a.jpg" in output.rows.index
        failure = output.failures.loc["cut.tar/b.jpg"]
        assert failure["stage"] == "read"
        assert f"byte {start}" in failure["message"]

    def test_a_tfrecord_with_a_bad_checksum_fails_with_its_offset(self, messy):
        output, _, _, _ = messy
        failure = output.failures.loc["city.tfrecord/damaged.jpg"]
        assert failure["stage"] == "read"
        assert re.search(r"byte \d+.*CRC-32C", failure["message"])

    def test_an_example_without_an_image_fails_with_its_offset(self, messy):
        output, _, _, _ = messy
        failure = output.failures.loc["city.tfrecord/without.jpg"]
        assert failure["stage"] == "read"
        assert re.search(r"byte \d+: no image", failure["message"])

    def test_the_other_records_of_a_damaged_shard_are_done(self, messy):
        output, _, _, _ = messy
        assert {"city.tfrecord/first.jpg", "city.tfrecord/last.jpg"} <= set(output.rows.index)

    def test_any_name_gives_a_mask_of_its_own_below_the_output_folder(self, messy):
        output, _, _, _ = messy
        rows = output.rows[output.rows["image"].str.startswith("names.tar/")]
        assert len(rows) == 8
        inside = (output.path / "masks" / "names.tar").resolve()
        files = {(output.path / mask).resolve() for mask in rows["mask"]}
        assert len({str(file).casefold() for file in files if "case" in file.name}) == 1
        assert len(files) == 8
        for file in files:
            assert file.is_relative_to(inside)
            assert file.is_file()
        assert not any("\n" in name or "\udce9" in name for name in rows["image"])
        assert not list(output.path.parent.glob("*climbs*"))

    def test_the_closing_line_counts_them(self, messy):
        output, result, _, _ = messy
        done, failed = len(output.rows), len(output.failures)
        assert closing_counts(result.output) == (done, failed, 0)


class TestNaN:
    def test_a_network_that_puts_out_nan_gives_failure_rows_and_no_mask(
        self, tmp_path, make_photo, citymask, tiny_model, output
    ):
        described = load_package(tiny_model)
        network = described.build_network()
        network.set_weights([np.full_like(w, np.nan) for w in network.get_weights()])
        package = write_package(tmp_path / "model", network, described).path
        for number in range(2):
            make_photo(tmp_path / "in" / f"{number}.jpg", seed=number)
        result = citymask("run", tmp_path / "in", "-o", output.path, "--model", package)
        assert result.exit_code == 3, "all images failed"
        assert set(output.failures["stage"]) == {"infer"}
        assert len(output.failures) == 2
        assert output.masks == [] and output.rows.empty
        assert output.summary["images"] == {"done": 0, "failed": 2, "skipped": 0}


class TestFailureShare:
    """A run is accepted or not by its share of failures."""

    @pytest.fixture
    def archive(self, tmp_path, make_photo):
        make_photo(tmp_path / "in" / "good.jpg")
        for number in range(3):
            (tmp_path / "in" / f"bad{number}.jpg").write_bytes(b"bad")
        return tmp_path / "in"

    def test_decides_between_exit_code_0_and_3(self, archive, citymask, output, tiny_model):
        def run(*arguments):
            return citymask("run", archive, "-o", output.path, "--model", tiny_model, *arguments)

        accepted = run("--max-failures", "0.75")
        assert accepted.exit_code == 0, accepted.output
        refused = run("--max-failures", "74%")
        assert refused.exit_code == 3
        assert "Error: 3 images failed, 75.0% of all" in refused.output
        assert str(output.path / "failures") in refused.output
        assert output.failures["attempts"].max() == 2


class TestRefusedBeforeAnyWork:
    """One clear line and exit code 2."""

    @pytest.fixture
    def archive(self, tmp_path, make_photo):
        make_photo(tmp_path / "in" / "a.jpg")
        return tmp_path / "in"

    @pytest.fixture
    def package(self, tiny_model, tmp_path) -> Path:
        """A copy of the tiny model, to be damaged."""
        return Path(shutil.copytree(tiny_model, tmp_path / "package"))

    @pytest.fixture
    def refused(self, citymask, archive, output, tiny_model):
        def run(*arguments, inputs=None, out=None, model=None) -> str:
            result = citymask(
                "run", *(inputs or [archive]), "-o", out or output.path,
                "--model", model or tiny_model, *arguments,
            )  # fmt: skip
            assert result.exit_code == 2, result.output
            assert output.rows.empty and output.masks == []
            (line,) = lines_of_error(result)
            assert line.startswith("Error: ")
            return line

        return run

    def test_missing_input(self, refused, archive, tmp_path):
        line = refused(inputs=[archive, tmp_path / "missing"])
        assert f"{tmp_path / 'missing'}: no such file or directory" in line

    def test_empty_input(self, refused, tmp_path):
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "Thumbs.db").write_bytes(b"")
        assert "nothing to segment" in refused(inputs=[tmp_path / "empty"])

    def test_glob_without_a_match(self, refused, tmp_path):
        assert "nothing to segment" in refused(inputs=[tmp_path / "in" / "*.png"])

    def test_empty_manifest(self, refused, tmp_path):
        (tmp_path / "list.csv").write_text("uri\n")
        assert "nothing to segment" in refused(inputs=[tmp_path / "list.csv"])

    def test_manifest_without_uris(self, refused, tmp_path):
        (tmp_path / "list.csv").write_text("path\na.jpg\n")
        assert "needs a column 'uri'" in refused(inputs=[tmp_path / "list.csv"])

    def test_unwritable_out(self, refused, tmp_path):
        (tmp_path / "file").write_text("a file")
        line = refused(out=tmp_path / "file" / "out")
        assert str(tmp_path / "file" / "out") in line
        assert "cannot be written" in line or "Not a directory" in line

    def test_unwritable_out_under_proc(self, refused):
        assert "/proc/citymask" in refused(out="/proc/citymask")

    def test_remote_out(self, refused):
        assert "OUT is a local folder or gs://" in refused(out="s3://bucket/out")

    def test_unknown_model(self, refused):
        line = refused(model="nosuchmodel")
        assert "unknown model 'nosuchmodel'" in line

    def test_class_table_that_does_not_fit_the_outputs(self, refused, package):
        description = json.loads((package / "model.json").read_text())
        description["classes"].append({"name": "Water", "color": [1, 2, 3]})
        (package / "model.json").write_text(json.dumps(description))
        assert "4 classes for a network with 3 outputs" in refused(model=package)

    def test_class_table_that_does_not_fit_the_weights(self, refused, package):
        description = json.loads((package / "model.json").read_text())
        description["classes"].append({"name": "Water", "color": [1, 2, 3]})
        description["outputs"] = 4
        (package / "model.json").write_text(json.dumps(description))
        assert "the weights do not fit" in refused(model=package)

    def test_package_cut_short(self, refused, package):
        weights = package / "model.weights.h5"
        weights.write_bytes(weights.read_bytes()[:-1000])
        assert "truncated or changed" in refused(model=package)

    def test_package_description_cut_short(self, refused, package):
        description = package / "model.json"
        description.write_bytes(description.read_bytes()[:-30])
        assert "truncated or changed" in refused(model=package)

    @pytest.mark.parametrize("name", ["model.pkl", "lambda.keras", "saved_model.pb", "layers.py"])
    def test_package_that_carries_code(self, refused, package, name):
        (package / name).write_bytes(b"code")
        line = refused(model=package)
        assert name in line and "may contain code" in line

    def test_unknown_option(self, refused):
        assert "--no-such-option" in refused("--no-such-option")

    def test_no_input_at_all(self, citymask, output):
        result = citymask("run", "-o", output.path)
        assert result.exit_code == 2
        assert "INPUT" in lines_of_error(result)[-1]


def test_a_run_beside_another_one_ends_with_exit_code_4(
    citymask, make_photo, tiny_model, output, tmp_path
):
    output.path.mkdir()
    program = (
        "import sys, time; from transforms.output.locking import OutputLock; "
        "OutputLock(sys.argv[1], 'other-run').acquire(); print('held', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(output.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "held\n"
        photo = make_photo(tmp_path / "a.jpg")
        arguments = ("run", photo, "--output", output.path, "--model", tiny_model)
        refused = citymask(*arguments)
        assert refused.exit_code == 4
        assert len(lines_of_error(refused)) == 1 and "run other-run" in refused.stderr
        assert not (output.path / "masks").exists()
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert citymask(*arguments).exit_code == 0
    assert len(output.masks) == 1


def test_an_unexpected_error_ends_with_one_line_and_exit_code_1(
    tmp_path, make_photo, tiny_model, monkeypatch, capsys, logging_kept
):
    make_photo(tmp_path / "in" / "a.jpg")
    (tmp_path / "out" / "summary.json").mkdir(parents=True)  # Where a file is to be.
    arguments = ["run", tmp_path / "in", "-o", tmp_path / "out", "--model", tiny_model]
    monkeypatch.setattr(sys, "argv", ["citymask", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "Error" in line]
    assert str(tmp_path / "out" / "summary.json") in error
    assert not (tmp_path / "out" / "summary.csv").exists()


def without_progress(stderr: str) -> list[str]:
    """The lines that are not progress, of which a slow machine sees some and a fast one none."""
    progress_line = re.compile(r"\d\d:\d\d:\d\d \d+ (images found|of \d+ images), ")
    return [line for line in stderr.splitlines() if not progress_line.match(line)]


class TestOnTheTerminal:
    """What the process itself prints; each of these starts one."""

    @pytest.fixture
    def command(self, tmp_path, make_photo, tiny_model):
        for number in range(3):
            make_photo(tmp_path / "in" / f"{number}.jpg", seed=number)
        return ["run", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", tiny_model]

    @pytest.fixture
    def environment(self):
        return {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "PYTHONWARN"))}

    def test_a_normal_run_prints_its_results_and_no_noise(self, command, environment):
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *command],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert without_progress(done.stderr) == []
        assert closing_counts(done.stdout) == (3, 0, 0)

    def test_a_terminal_shows_a_bar_with_rate_and_time_left(self, command, environment):
        terminal, end = pty.openpty()
        with subprocess.Popen(
            [CONSOLE_SCRIPT, *command],
            stdout=subprocess.PIPE, stderr=end,
            env={**environment, "TERM": "xterm-256color", "COLUMNS": "100"},
        ) as process:  # fmt: skip
            os.close(end)
            seen = bytearray()
            while select.select([terminal], [], [], 60)[0]:
                try:
                    part = os.read(terminal, 65536)
                except OSError:  # How Linux says that the other end is closed.
                    break
                seen += part
            stdout = process.communicate()[0].decode()
        os.close(terminal)
        shown = seen.decode()
        assert process.returncode == 0, shown
        assert "━" in shown
        assert "images/s" in shown
        assert re.search(r"\d:\d\d:\d\d|-:--:--", shown), "time left"
        assert closing_counts(stdout) == (3, 0, 0)

    @pytest.fixture(scope="class")
    def many(self, make_photo, tmp_path_factory):
        """Photos enough for a run that takes some seconds."""
        folder = tmp_path_factory.mktemp("many")
        for number in range(400):
            make_photo(folder / f"{number}.jpg", seed=number)
        return folder

    @pytest.fixture
    def begun(self, many, environment, output, tiny_model):
        """A run that has committed something and has much to do, and its output folder."""
        command = [CONSOLE_SCRIPT, "run", many, "-o", output.path, "--model", tiny_model]
        with subprocess.Popen(
            [*command, "--unit-size", "4"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        ) as process:  # fmt: skip
            until(lambda: not output.rows.empty or process.poll() is not None, pause=0.02)
            yield process, output
            process.kill()

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_signal_lets_the_run_end_in_order(self, begun, number, code):
        process, output = begun
        process.send_signal(number)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == code, stderr
        done = len(output.rows)
        assert 0 < done < 400
        assert len(output.masks) == done
        assert output.summary["images"] == {"done": done, "failed": 0, "skipped": 0}
        assert output.summary["interrupted"] == {"reason": number.name, "left": 400 - done}
        assert output.runs[0]["interrupted"] == number.name
        assert f"{400 - done} images are left for the next run" in stderr

    def test_a_second_signal_ends_it_at_once(self, begun):
        process, output = begun
        process.send_signal(signal.SIGTERM)
        stop = output.path / stopping.STOP
        until(lambda: stop.exists() or process.poll() is not None, pause=0.001)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 143, stderr
        assert "Interrupted (SIGTERM)" in stderr

    def test_the_console_script_and_the_module_are_the_same(self, environment):
        started = [
            subprocess.Popen(
                [*program, "run", "--help"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
            )
            for program in ([CONSOLE_SCRIPT], [sys.executable, "-m", "pipeline"])
        ]  # fmt: skip
        helps = [process.communicate()[0] for process in started]
        assert helps[0] == helps[1]
        assert "Usage: citymask run" in helps[0]


class TestProgress:
    def test_is_plain_log_lines_where_there_is_no_terminal(
        self, tmp_path, make_photo, citymask, tiny_model, monkeypatch
    ):
        monkeypatch.setattr(console, "LINE_INTERVAL", 0.0)
        for number in range(4):
            make_photo(tmp_path / "in" / f"{number}.jpg", seed=number)
        result = citymask("run", tmp_path / "in", "-o", tmp_path / "out", "--model", tiny_model)
        lines = [line for line in result.output.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
        assert any("4 images found" in line for line in lines)
        assert re.fullmatch(
            r"\d\d:\d\d:\d\d 4 of 4 images, \d+\.\d images/s, 0 s left, 0 failed", lines[-1]
        )
        assert "━" not in "".join(lines)

    def test_counts_what_became_of_the_images(self):
        monitor = console.ProgressMonitor(console.QUIET)
        with monitor:
            progress.report(found=3)
            progress.report(skipped=1)
            progress.report(done=1)
            progress.report(failed=1)
        progress.report(done=1)
        assert monitor.counts == {"found": 3, "skipped": 1, "done": 1, "failed": 1}


def test_overlays_stand_beside_masks_and_quiet_prints_nothing(
    tmp_path, make_photo, citymask, tiny_model, output
):
    make_photo(tmp_path / "in" / "lund" / "a.jpg", 120, 80)
    result = citymask("run", tmp_path / "in", "-o", output.path, "--model", tiny_model, "--overlay")
    assert result.exit_code == 0, result.output
    with Image.open(output.path / "masks" / "lund" / "a.jpg.overlay.jpg") as overlay:
        assert (overlay.format, overlay.size) == ("JPEG", (120, 80))


def test_several_inputs_and_an_output_inside_one_of_them(
    tmp_path, make_photo, citymask, tiny_model, output_at
):
    make_photo(tmp_path / "a" / "lund" / "1.jpg", seed=1)
    make_photo(tmp_path / "b" / "lund" / "1.jpg", seed=2)
    arguments = ["run", tmp_path / "a", tmp_path / "b", tmp_path / "b"]
    arguments += ["-o", tmp_path / "a" / "results", "--model", tiny_model]
    output = output_at(tmp_path / "a" / "results")
    for run in range(2):
        result = citymask(*arguments)
        assert result.exit_code == 0, result.output
        assert len(output.runs) == run + 1
    rows = output.rows
    assert set(rows["uri"]) == {
        str(tmp_path / "a" / "lund" / "1.jpg"),
        str(tmp_path / "b" / "lund" / "1.jpg"),
    }
    assert len(set(rows["mask"])) == len(rows) == len(output.masks) == 2
    assert [run["images"]["done"] for run in output.runs] == [2, 0]
    assert output.runs[0]["images"]["given_twice"] == 1
