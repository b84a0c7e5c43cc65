"""Removing what is old: records, and failure rows that no count of attempts rests on."""

import json
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.nights.config import Retention
from pipeline.nights.retention import Removed, remove_old
from transforms.output.schemas import FAILURE_SCHEMA

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=timezone.utc)
FOR_TEN_DAYS = Retention(runs=10, failures=10)


def run_of(day: int) -> str:
    return f"202611{day:02}T010000Z-{day:06x}"


@pytest.fixture
def output(tmp_path):
    return Archive(tmp_path)


class Archive:
    """An output folder with rows and records as runs leave them."""

    def __init__(self, path: Path):
        self.path = path
        for folder in ("runs", "failures", "statistics"):
            (path / folder).mkdir()

    def record(self, day: int) -> None:
        document = {"run_id": run_of(day), "started_at": f"2026-11-{day:02}T01:00:00+00:00"}
        (self.path / "runs" / f"{run_of(day)}.json").write_text(json.dumps(document))

    def fail(self, file: str, *failures: tuple[str, str, int, int | str]) -> None:
        """Rows of (image, version, attempts, day or run id)."""
        rows = [
            {"image": image, "uri": image, "version": version, "stage": "read", "error": "E",
             "message": "m", "attempts": attempts,
             "run_id": run_of(day) if isinstance(day, int) else day}
            for image, version, attempts, day in failures
        ]  # fmt: skip
        table = pa.Table.from_pylist(rows, FAILURE_SCHEMA)
        pq.write_table(table, self.path / "failures" / f"{file}.parquet")

    def do(self, image: str, day: int, version: str = "1-1") -> None:
        """A row of an image that was done."""
        table = pa.table({"image": [image], "version": [version], "run_id": [run_of(day)]})
        pq.write_table(table, self.path / "statistics" / f"{image}-{day}.parquet")

    def clean(self, retention: Retention = FOR_TEN_DAYS) -> Removed:
        return remove_old(str(self.path), retention, NOW)

    @property
    def days(self) -> list[int]:
        return sorted(int(path.name[6:8]) for path in (self.path / "runs").glob("2026*.json"))

    @property
    def failures(self) -> list[tuple[str, str, int]]:
        """What is left, as (image, version, attempts)."""
        files = sorted((self.path / "failures").glob("*.parquet"))
        rows = [row for file in files for row in pq.read_table(file).to_pylist()]
        return sorted((row["image"], row["version"], row["attempts"]) for row in rows)


def test_records_of_older_runs_are_removed(output):
    for day in (1, 12, 13, 14, 22):
        output.record(day)
    assert output.clean() == Removed(runs=3, failures=0)
    assert output.days == [14, 22]


def test_the_newest_record_stays_however_old_it_is(output):
    output.record(1)
    output.record(2)
    output.clean()
    assert output.days == [2]


def test_what_is_no_run_record_stays(output):
    output.record(22)
    strange = {"run_id": "x", "started_at": "long ago"}
    (output.path / "runs" / "x.json").write_text(json.dumps(strange))
    (output.path / "runs" / "y.json").write_text("{")
    assert output.clean() == Removed(0, 0)
    assert len(list((output.path / "runs").iterdir())) == 3


def test_nothing_is_removed_where_nothing_is_said(output):
    output.record(1)
    output.record(2)
    output.fail("a", ("a.jpg", "1-1", 1, 1))
    output.do("a.jpg", 2)
    assert output.clean(Retention()) == Removed(0, 0)
    assert (output.days, len(output.failures)) == ([1, 2], 1)


def test_an_empty_output_folder_is_no_error(tmp_path):
    assert remove_old(str(tmp_path), FOR_TEN_DAYS, NOW) == Removed(0, 0)


def test_old_failures_of_an_image_that_has_been_done_since_are_removed(output):
    output.fail("a", ("a.jpg", "1-1", 1, 1), ("a.jpg", "1-1", 2, 2))
    output.do("a.jpg", 3)
    assert output.clean() == Removed(runs=0, failures=2)
    assert not list((output.path / "failures").iterdir())


def test_failures_of_a_version_that_was_replaced_by_one_that_is_done_are_removed(output):
    output.fail("a", ("a.jpg", "1-1", 3, 1))
    output.do("a.jpg", 3, version="2-2")
    assert output.clean().failures == 1


def test_failures_since_an_image_was_done_stay(output):
    """A photo that was done, then changed, and whose new version fails."""
    output.do("a.jpg", 1)
    output.fail("a", ("a.jpg", "2-2", 3, 2))
    assert output.clean().failures == 0
    assert output.failures == [("a.jpg", "2-2", 3)]


def test_the_count_of_an_image_that_still_fails_is_never_lost(output):
    output.fail("a", ("a.jpg", "1-1", 1, 1), ("b.jpg", "1-1", 1, 1))
    output.fail("b", ("a.jpg", "1-1", 2, 2))
    output.fail("c", ("a.jpg", "1-1", 3, 3), ("a.jpg", "2-2", 1, 4))
    assert output.clean().failures == 2
    assert output.failures == [("a.jpg", "1-1", 3), ("a.jpg", "2-2", 1), ("b.jpg", "1-1", 1)]


def test_young_failures_stay_though_the_image_is_done(output):
    output.fail("a", ("a.jpg", "1-1", 1, 12), ("a.jpg", "1-1", 2, 20))
    output.do("a.jpg", 21)
    assert output.clean().failures == 1
    assert output.failures == [("a.jpg", "1-1", 2)]


def test_a_row_whose_run_tells_no_time_stays(output):
    output.fail("a", ("a.jpg", "1-1", 1, "tonight"), ("a.jpg", "1-1", 2, "2026"))
    output.do("a.jpg", 21)
    assert output.clean().failures == 0


def test_what_stays_in_a_file_stays_as_it_is(output):
    output.fail("a", ("a.jpg", "1-1", 1, 1), ("b.jpg", "1-1", 1, 1))
    path = output.path / "failures" / "a.parquet"
    before = pq.read_table(path)
    output.do("a.jpg", 1)
    output.clean()
    after = pq.read_table(path)
    assert after.schema == before.schema == FAILURE_SCHEMA
    assert after.to_pylist() == before.to_pylist()[1:]


def test_a_file_with_nothing_to_remove_is_not_written_anew(output):
    output.fail("a", ("b.jpg", "1-1", 1, 1))
    path = output.path / "failures" / "a.parquet"
    before = path.stat()
    output.clean()
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_removing_twice_removes_no_more(output):
    output.record(1)
    output.record(22)
    output.fail("a", ("a.jpg", "1-1", 1, 1), ("a.jpg", "1-1", 2, 2))
    assert output.clean() == Removed(1, 1)
    assert output.clean() == Removed(0, 0)
