"""`--skip-duplicates` and `--skip-blurred` from end to end: rows, nights, kills, counts."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pytest
import webdataset as wds
from PIL import Image, ImageFilter

ROOT = Path(__file__).resolve().parents[2]
PHOTOS = {path.stem: path for path in ROOT.glob("demo/photos/*/*.jpg")}
GATE = ("--skip-duplicates", "--skip-blurred")

ASIDE = {
    "city/berlin_again.jpg": ("duplicate", "city/berlin.jpg"),
    "city/berlin_cropped.jpg": ("duplicate", "city/berlin.jpg"),
    "city/rome_blurred.jpg": ("blurred", None),
    "other/trier.jpg": ("duplicate", "city/trier.jpg"),
}
KEPT = {"city/berlin.jpg", "city/rome.jpg", "city/trier.jpg", "other/avignon.jpg"}


def at_place(photo: Image.Image) -> Image.Exif:
    exif = photo.getexif()
    exif.get_ifd(0x8825).update({1: "N", 2: (45.0, 4.0, 12.0), 3: "E", 4: (7.0, 40.0, 48.0)})
    return exif


def make_archive(folder: Path) -> Path:
    """Real photos, and copies: saved again, cropped, blurred, of one place in two folders."""
    (folder / "city").mkdir(parents=True)
    (folder / "other").mkdir()
    photos = {name: Image.open(path).convert("RGB") for name, path in PHOTOS.items()}
    for name in ("berlin", "rome"):
        photos[name].save(folder / "city" / f"{name}.jpg", quality=92)
    berlin, trier = photos["berlin"], photos["trier"]
    berlin.save(folder / "city" / "berlin_again.jpg", quality=50)
    cut = (12, 9, berlin.width - 12, berlin.height - 9)
    berlin.crop(cut).save(folder / "city" / "berlin_cropped.jpg")
    blurred = photos["rome"].filter(ImageFilter.GaussianBlur(photos["rome"].width / 100))
    blurred.save(folder / "city" / "rome_blurred.jpg")
    photos["avignon"].save(folder / "other" / "avignon.jpg")
    for place in ("city", "other"):
        trier.save(folder / place / "trier.jpg", quality=80, exif=at_place(trier))
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return make_archive(tmp_path_factory.mktemp("gate") / "archive")


@pytest.fixture(scope="module")
def whole(archive, citymask, tiny_model, tmp_path_factory) -> tuple[Path, str]:
    """The output folder of one run over the archive, and what it printed."""
    path = tmp_path_factory.mktemp("whole") / "out"
    options = ("--model", tiny_model, *GATE, "--unit-size", 1)
    result = citymask("run", archive, "-o", path, *options)
    assert result.exit_code == 0, result.output
    return path, result.output


@pytest.fixture
def done(whole, output) -> str:
    """Makes `output` that of a run over the archive; what the run printed."""
    shutil.copytree(whole[0], output.path)
    return whole[1]


def gated(path: Path) -> dict[str, tuple[str, str | None]]:
    table = pd.concat(map(pd.read_parquet, (path / "gated").glob("*.parquet")))
    table = table.astype(object).where(table.notna(), None)
    assert not table["image"].duplicated().any()
    return {row["image"]: (row["reason"], row["of"]) for row in table.to_dict("records")}


class TestOneRun:
    def test_copies_and_blurred_photos_are_set_aside_with_their_reasons(self, done, output):
        assert gated(output.path) == ASIDE
        assert set(output.rows.index) == KEPT
        assert "3 set aside as duplicates, 1 set aside as blurred" in done
        table = pd.read_parquet(output.path / "gated").set_index("image")
        assert table.loc["city/rome_blurred.jpg", "value"] < 0.58
        assert 0 <= table.loc["city/berlin_again.jpg", "value"] <= 32
        assert set(table["run_id"]) == {output.runs[0]["run_id"]}

    def test_summary_and_record_count_them(self, done, output):
        expected = {"done": 4, "failed": 0, "skipped": 0, "gated": 4}
        assert output.summary["images"] == expected
        assert output.summary["groups"]["other"]["images"]["gated"] == 1
        images = output.runs[0]["images"]
        assert (images["duplicate"], images["blurred"], images["gated"]) == (3, 1, 0)
        assert images["new"] == images["found"] == 8 == images["done"] + 4
        options = output.runs[0]["options"]
        assert options["skip_duplicates"] and options["skip_blurred"]

    def test_rows_of_the_others_say_what_they_look_like(self, done, output):
        assert output.rows["perceptual_hash"].str.fullmatch("[0-9a-f]{64}").all()
        assert output.rows["sharpness"].between(0.58, 1).all()

    def test_each_reason_has_an_option_of_its_own(self, run, output):
        run("--skip-duplicates")
        expected = ASIDE | {"city/rome_blurred.jpg": ("duplicate", "city/rome.jpg")}
        assert gated(output.path) == expected

    def test_without_options_nothing_is_different(self, run, output):
        run()
        assert len(output.rows) == 8
        assert not (output.path / "gated").exists()
        assert "gated" not in output.summary["images"]
        names = ds.dataset(output.path / "statistics").schema.names
        assert not {"perceptual_hash", "sharpness"} & set(names)

    def test_two_processes_come_to_the_same(self, run, output):
        run(*GATE, "--workers", 2)
        assert gated(output.path) == ASIDE
        assert set(output.rows.index) == KEPT

    def test_what_cannot_be_looked_at_fails_as_ever(self, run, output, archive, tmp_path):
        (tmp_path / "broken.jpg").write_bytes((archive / "city" / "rome.jpg").read_bytes()[:900])
        run(*GATE, inputs=[archive / "other", tmp_path / "broken.jpg"])
        assert list(output.failures["stage"]) == ["decode"]
        assert len(output.rows) == 2

    def test_members_of_a_shard_are_compared_too(self, run, output, archive, tmp_path):
        with wds.TarWriter(str(tmp_path / "a.tar")) as shard:
            for name in ("berlin", "berlin_again", "rome"):
                photo = (archive / "city" / f"{name}.jpg").read_bytes()
                shard.write({"__key__": name, "jpg": photo})
        run(*GATE, inputs=[tmp_path / "a.tar"])
        assert gated(output.path) == {"a.tar/berlin_again.jpg": ("duplicate", "a.tar/berlin.jpg")}

    def test_a_manifests_own_columns_of_these_names_are_kept(self, run, output, archive, tmp_path):
        manifest = tmp_path / "list.csv"
        manifest.write_text(f"uri,sharpness\n{archive}/city/rome.jpg,high\n")
        run(inputs=[manifest])
        assert output.rows["input_sharpness"].tolist() == ["high"]


class TestLaterRuns:
    def test_leave_alone_what_was_set_aside(self, run, done, output):
        before = sorted((output.path / "gated").iterdir())
        printed = run(*GATE).output
        assert "nothing new" in printed and "4 set aside before" in printed
        assert sorted((output.path / "gated").iterdir()) == before
        assert output.summary["images"] == {"done": 4, "failed": 0, "skipped": 4, "gated": 4}
        images = output.runs[1]["images"]
        assert images["found"] == 8 == images["skipped"] + images["gated"]

    def test_a_dry_run_tells_it(self, run, done):
        printed = run(*GATE, "--dry-run").output
        assert "set aside before" in printed and "would do 0 of 8" in printed

    def test_without_the_options_it_is_done(self, run, done, output):
        run("--skip-blurred")
        assert set(output.rows.index) == KEPT | set(ASIDE) - {"city/rome_blurred.jpg"}
        assert output.summary["images"]["gated"] == 1
        run()
        assert len(output.rows) == 8
        run(*GATE)
        assert output.summary["images"] == {"done": 8, "failed": 0, "skipped": 8, "gated": 0}

    def test_a_new_version_is_looked_at_anew(self, run, output, tmp_path):
        archive = make_archive(tmp_path / "archive")
        run(*GATE, inputs=[archive])
        Image.open(PHOTOS["avignon"]).save(archive / "city" / "rome_blurred.jpg")
        run(*GATE, inputs=[archive])
        assert "city/rome_blurred.jpg" in output.rows.index
        assert output.summary["images"]["gated"] == 3

    def test_new_photos_are_compared_with_those_of_nights_before(self, run, output, tmp_path):
        archive = make_archive(tmp_path / "archive")
        run(*GATE, inputs=[archive])
        photo = Image.open(archive / "city" / "trier.jpg")
        photo.save(archive / "city" / "aaa.jpg", quality=60, exif=at_place(photo))
        Image.open(archive / "other" / "avignon.jpg").save(archive / "other" / "b.jpg", quality=60)
        run(*GATE, inputs=[archive])
        new = {
            "city/aaa.jpg": ("duplicate", "city/trier.jpg"),
            "other/b.jpg": ("duplicate", "other/avignon.jpg"),
        }
        assert gated(output.path) == ASIDE | new
        assert set(output.rows.index) == KEPT

    def test_force_decides_anew(self, run, done, output):
        run(*GATE, "--force")
        assert set(output.rows.index) == KEPT
        assert set(output.rows["run_id"]) == {output.runs[1]["run_id"]}
        assert output.summary["images"]["gated"] == 4

    def test_verify_and_compact_take_the_rows(self, run, done, output, citymask):
        assert citymask("verify", output.path).exit_code == 0
        assert citymask("compact", output.path).exit_code == 0
        assert gated(output.path) == ASIDE
        assert "4 set aside before" in run(*GATE).output

    def test_a_file_of_them_that_is_damaged_is_found_and_written_anew(
        self, run, done, output, citymask
    ):
        damaged = sorted((output.path / "gated").iterdir())[0]
        damaged.write_bytes(b"PAR1")
        assert citymask("verify", output.path).exit_code == 3
        run(*GATE)
        assert gated(output.path) == ASIDE
        assert set(output.rows.index) == KEPT

    def test_every_night_has_the_options_too(self, output, archive, citymask, tiny_model, tmp_path):
        (tmp_path / "nightly.yaml").write_text(
            f"inputs: [{archive}]\noutput: {output.path}\nmodel: {tiny_model}\n"
            "skip_duplicates: true\nskip_blurred: true\n"
        )
        for _ in range(2):
            result = citymask("nightly", tmp_path / "nightly.yaml")
            assert result.exit_code == 0, result.output
        assert gated(output.path) == ASIDE
        assert "4 set aside before" in result.output


class TestKills:
    def test_whatever_rows_a_killed_run_leaves_the_next_comes_to_the_same(self, run, done, output):
        """A kill leaves some of the files that a whole run writes, those of photos last."""
        for file in (output.path / "statistics").iterdir():
            if pd.read_parquet(file)["image"][0] in ("city/berlin.jpg", "city/trier.jpg"):
                file.unlink()
        run(*GATE)
        assert (gated(output.path), set(output.rows.index)) == (ASIDE, KEPT)
        for file in [*(output.path / "statistics").iterdir(), *(output.path / "gated").iterdir()]:
            if "other/trier.jpg" not in pd.read_parquet(file)["image"].tolist():
                file.unlink()
        run(*GATE)
        assert (gated(output.path), set(output.rows.index)) == (ASIDE, KEPT)

    def test_a_run_that_is_killed_has_set_everything_aside_before_its_first_mask(
        self, run, output, archive, tiny_model
    ):
        command = [sys.executable, "-m", "pipeline", "run", archive, "-o", output.path]
        options = ["--model", tiny_model, *GATE, "--unit-size", "1"]
        killed = subprocess.Popen([*map(str, command), *map(str, options)], cwd=ROOT)
        end = time.monotonic() + 120
        while killed.poll() is None and time.monotonic() < end:
            if list(output.path.glob("masks/**/*.png")):
                os.kill(killed.pid, signal.SIGKILL)
                break
            time.sleep(0.005)
        killed.wait()
        assert list(output.path.glob("masks/**/*.png"))
        assert gated(output.path) == ASIDE
        run(*GATE)
        assert (gated(output.path), set(output.rows.index)) == (ASIDE, KEPT)

    def test_a_run_that_is_asked_to_stop_sets_nothing_aside(self, run, output):
        """The photos that it leaves are decided about by the next one."""
        printed = run(*GATE, "--max-minutes", 1e-9).output
        assert "8 left for the next run" in printed, printed
        assert not (output.path / "gated").exists()
        run(*GATE)
        assert (gated(output.path), set(output.rows.index)) == (ASIDE, KEPT)


def test_different_photos_of_one_street_are_all_done(shared_data, run, output):
    run(*GATE, inputs=[shared_data / "street_photos"])
    assert output.summary["images"] == {"done": 33, "failed": 0, "skipped": 0, "gated": 0}
