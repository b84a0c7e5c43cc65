"""Runs over an archive that changes: what is done again, tried again, left, and reported."""

import os
from datetime import datetime, timezone

import pandas as pd
import pytest
from PIL import Image


def arrived(path, day: str):
    """Give a file the modification time of noon, UTC."""
    moment = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=timezone.utc).timestamp()
    os.utime(path, (moment, moment))


class TestForce:
    def test_does_everything_anew_and_leaves_one_row_of_each_image(self, run, output):
        run()
        before = output.rows
        masks = {name: (output.path / name).read_bytes() for name in output.masks}
        run("--force")
        after = output.rows
        assert list(after.index) == list(before.index)
        assert set(after["run_id"]).isdisjoint(before["run_id"])
        pd.testing.assert_frame_equal(
            after.drop(columns="run_id"), before.drop(columns="run_id"), check_like=True
        )
        assert masks == {name: (output.path / name).read_bytes() for name in output.masks}
        assert output.runs[-1]["images"]["redone"] == 4

    def test_keeps_the_row_of_an_image_that_cannot_be_done_any_more(self, run, output, archive):
        run()
        photo = archive / "lund" / "0.jpg"
        status = photo.stat()
        photo.write_bytes(bytes(status.st_size))
        os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))
        run("--force")
        assert list(output.failures.index) == ["lund/0.jpg"]
        assert len(output.rows) == 4


class TestQuarantine:
    @pytest.fixture
    def broken(self, archive):
        path = archive / "lund" / "broken.jpg"
        path.write_bytes(b"not a photo")
        return path

    def test_a_bad_image_is_tried_so_often_and_no_more(self, run, output, broken):
        attempts = []
        for _ in range(4):
            run("--max-attempts", 3)
            attempts.append(int(output.failures["attempts"].max()))
        assert attempts == [1, 2, 3, 3]
        states = [
            {name: record["images"][name] for name in ("retried", "failed", "quarantined")}
            for record in output.runs
        ]
        assert [tuple(state.values()) for state in states] == [
            (0, 1, 0), (1, 1, 0), (1, 1, 0), (0, 0, 1)
        ]  # fmt: skip

    def test_retry_failed_tries_it_once_more(self, run, output, broken):
        run("--max-attempts", 1)
        run("--max-attempts", 1, "--retry-failed")
        assert output.runs[-1]["images"]["failed"] == 1
        result = run("--max-attempts", 1)
        assert "1 in quarantine (failed too often)" in result.stdout

    def test_a_repaired_image_is_done(self, run, output, broken, make_photo):
        run("--max-attempts", 1)
        make_photo(broken, seed=9)
        run("--max-attempts", 1)
        assert "lund/broken.jpg" in output.rows.index


class TestDryRun:
    def test_says_what_would_be_done_and_writes_nothing(self, run, output, archive, make_photo):
        result = run("--dry-run")
        assert "A run would do 4 of 4 images; how long it takes is not known" in result.stdout
        assert not output.path.exists()
        run()
        make_photo(archive / "lund" / "4.jpg", seed=4)
        make_photo(archive / "lund" / "0.jpg", seed=5, width=98)
        before = sorted(path for path in output.path.rglob("*"))
        result = run("--dry-run")
        assert before == sorted(path for path in output.path.rglob("*"))
        assert "A run would do 2 of 5 images, in about 0:0" in result.stdout
        for line in ("new", "changed since they were done"):
            (row,) = [text for text in result.stdout.splitlines() if f" {line} " in text]
            assert row.split()[-2] == "1"


class TestLimits:
    def test_max_images_takes_so_many_and_leaves_the_others(self, run, output):
        result = run("--max-images", 3)
        assert sorted(output.rows.index) == [f"lund/{n}.jpg" for n in range(3)]
        assert "1 left for the next run" in result.stdout
        assert output.summary["interrupted"] == {"reason": "max_images", "left": 1}
        run("--max-images", 3)
        assert len(output.rows) == 4
        assert "interrupted" not in output.summary
        assert output.runs[-1]["images"]["left"] == 0

    def test_max_minutes_ends_in_order(self, run, output):
        result = run("--max-minutes", 1e-6, "--unit-size", 1)
        left = output.runs[0]["images"]["left"]
        assert output.summary["interrupted"] == {"reason": "max_minutes", "left": left}
        assert left == 4
        assert "4 left for the next run" in result.stdout
        run()
        assert len(output.rows) == 4


class TestRemovedImages:
    def test_are_reported_and_keep_their_results(self, run, output, archive):
        run()
        (archive / "lund" / "1.jpg").unlink()
        result = run()
        assert "1 removed since they were done" in result.stdout
        removed = pd.read_csv(output.path / "removed.csv")
        assert list(removed["image"]) == ["lund/1.jpg"]
        assert "lund/1.jpg" in output.rows.index
        assert "masks/lund/1.jpg.png" in output.masks

    def test_what_is_not_among_the_inputs_is_not_removed(self, run, output, archive):
        run()
        run(inputs=[archive / "lund" / "0.jpg"])
        assert output.runs[-1]["images"]["removed"] == 0


def test_every_image_that_was_found_is_counted_once(run, output, archive, make_photo):
    run("--max-images", 2)
    (archive / "lund" / "broken.jpg").write_bytes(b"no photo")
    make_photo(archive / "lund" / "0.jpg", seed=8, width=98)
    run(archive, "--max-attempts", 1)
    run("--force", "--max-attempts", 1, "--max-images", 3)
    for record in output.runs:
        images = record["images"]
        todo = sum(images[name] for name in ("new", "replaced", "retried", "redone"))
        not_todo = sum(images[name] for name in ("skipped", "quarantined", "given_twice"))
        assert images["found"] == todo + not_todo
        ends = ("done", "failed", "left", "outside_dates")
        assert todo == sum(images[name] for name in ends)
    assert [record["images"]["left"] for record in output.runs] == [2, 0, 1]


class TestDates:
    def test_of_arrival_take_the_files_of_these_days(self, run, output, archive):
        for number, day in enumerate(("2026-11-01", "2026-11-02", "2026-11-02", "2026-11-03")):
            arrived(archive / "lund" / f"{number}.jpg", day)
        run("--date", "2026-11-02")
        assert list(output.rows.index) == ["lund/1.jpg", "lund/2.jpg"]
        assert output.runs[0]["images"]["outside_dates"] == 2
        run("--from", "2026-11-02", "--to", "2026-11-03")
        assert list(output.rows.index) == ["lund/1.jpg", "lund/2.jpg", "lund/3.jpg"]
        assert output.runs[-1]["images"]["skipped"] == 2

    def test_of_capture_take_photos_by_their_exif_tags(self, run, output, archive):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = "2026:11:05 08:00:00"
        Image.new("RGB", (64, 48)).save(archive / "lund" / "dated.jpg", exif=exif)
        run("--date", "2026-11-05", "--by", "capture")
        assert list(output.rows.index) == ["lund/dated.jpg"]

    def test_of_capture_take_photos_by_their_manifest(self, run, output, archive):
        lines = [f"lund/{n}.jpg,2026-11-0{n + 1}T08:00:00" for n in range(4)]
        manifest = archive / "photos.csv"
        manifest.write_text("\n".join(["uri,captured_at", *lines]))
        run("--by", "capture", "--from", "2026-11-03", inputs=[manifest])
        assert list(output.rows.index) == ["lund/2.jpg", "lund/3.jpg"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--date", "yesterday"), "'yesterday' does not match the format '%Y-%m-%d'"),
            (("--date", "2026-11-02", "--to", "2026-11-03"), "--date excludes --from and --to"),
            (("--from", "2026-11-03", "--to", "2026-11-02"), "is later than --to"),
        ],
    )
    def test_that_make_no_sense_are_refused(self, run, output, options, message):
        assert message in run(*options, code=2).stderr
        assert not output.path.exists()
