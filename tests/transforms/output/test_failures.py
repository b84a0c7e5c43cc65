"""Failures: each image counts once, with its newest failure, unless it has been done since."""

import pyarrow as pa

from transforms.flow.records import Failure, ImageRef, PlannedImage, UnitResult
from transforms.output import rows
from transforms.output.failures import (
    done_among,
    failure_kinds,
    failures_of_run,
    newest_failures,
    still_failing,
)


def fail(folder, run_id: str, stage: str, *images: str) -> None:
    """Write failure rows of images as a run does."""
    failures = tuple(
        Failure(
            PlannedImage(ImageRef(i, f"/a/{i}", f"/a/{i}", "1-1", "."), f"masks/{i}.png"),
            stage,
            "E",
            f"{i}!",
        )
        for i in images
    )
    classes, unit = (), f"{run_id}-{images[0]}"
    rows.commit(str(folder), UnitResult(unit, (), failures), classes, "m", run_id)


def kinds(folder, *done: str):
    found = newest_failures(str(folder))
    images = done_among(found, pa.table({"image": pa.array(["x.jpg", *done])}))
    return [(k.stage, len(k.images), list(k.images), k.message)
            for k in failure_kinds(still_failing(found, [images]))]  # fmt: skip


def test_an_image_counts_once_with_its_newest_failure(tmp_path):
    fail(tmp_path, "2", "decode", "a.jpg", "b.jpg")
    fail(tmp_path, "1", "read", "a.jpg", "c.jpg")
    assert kinds(tmp_path) == [
        ("decode", 2, ["a.jpg", "b.jpg"], "a.jpg!"), ("read", 1, ["c.jpg"], "c.jpg!")
    ]  # fmt: skip


def test_what_has_been_done_since_has_not_failed(tmp_path):
    fail(tmp_path, "1", "read", "a.jpg", "c.jpg")
    assert kinds(tmp_path, "a.jpg") == [("read", 1, ["c.jpg"], "c.jpg!")]
    assert kinds(tmp_path, "a.jpg", "c.jpg") == []


def test_the_failures_of_one_run_are_told_apart(tmp_path):
    fail(tmp_path, "1", "read", "b.jpg", "a.jpg")
    fail(tmp_path, "2", "decode", "a.jpg")
    (kind,) = failure_kinds(failures_of_run(str(tmp_path), "1"))
    assert (kind.stage, kind.images, kind.message) == ("read", ("a.jpg", "b.jpg"), "a.jpg!")


def test_without_failures_there_are_none(tmp_path):
    assert kinds(tmp_path) == []
