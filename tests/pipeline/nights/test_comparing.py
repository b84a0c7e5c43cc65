"""Nights beside each other: what the records say, what has drifted, what failed most."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.nights.comparing import (
    Figure,
    archive_pixels,
    compare,
    worst_failures,
)
from pipeline.nights.config import Thresholds
from pipeline.nights.printing import print_comparison
from transforms.output.run_records import RunRecord
from transforms.output.schemas import FAILURE_SCHEMA
from transforms.output.summary import Summary

DRIFT = Thresholds(drift=0.05, drift_nights=3, drift_images=10)


def night(day: int, pixels: dict[str, int] | None = None, **images: int) -> RunRecord:
    """The record of a night in November."""
    return RunRecord(
        run_id=f"202611{day:02}T010000Z-{day:06x}",
        started_at=f"2026-11-{day:02}T01:00:00+00:00",
        model="default-1",
        images={"done": 100, "failed": 0, "skipped": 5, "new": 100, **images},
        images_per_second=float(day),
        pixels={"Road": 600, "Sky": 400} if pixels is None else pixels,
    )


@pytest.fixture
def fail(tmp_path):
    """Writes a failures file: a row per (stage, error, image, message)."""

    def of(name: str, run_id: str, *failures: tuple[str, str, str, str]):
        (tmp_path / "failures").mkdir(exist_ok=True)
        rows = [
            {"image": image, "uri": image, "version": "1-1", "stage": stage, "error": error,
             "message": message, "attempts": 1, "run_id": run_id}
            for stage, error, image, message in failures
        ]  # fmt: skip
        table = pa.Table.from_pylist(rows, FAILURE_SCHEMA)
        pq.write_table(table, tmp_path / "failures" / f"{name}.parquet")
        return str(tmp_path)

    return of


def names_of(alarms):
    return [alarm.name for alarm in alarms]


def test_the_pixels_of_the_archive_are_those_of_the_summary():
    entries = [{"name": "Sky", "pixels": 7, "fraction": 1.0, "images": 1}]
    summary = Summary.model_validate({"images": {}, "classes": entries})
    assert archive_pixels(summary) == {"Sky": 7}


def test_images_are_compared_with_the_mean_of_the_last_nights():
    earlier = [night(1, new=900), night(2, new=10), night(3, new=20), night(4, new=60)]
    tonight = night(5, new=40, quarantined=2, left=7)
    comparison = compare(tonight, {}, earlier, DRIFT)
    assert comparison.nights == 3
    assert comparison.images["new"] == Figure(40, 30)
    assert comparison.images["failed"] == Figure(0, 0)
    assert comparison.images_per_second == Figure(5.0, 3.0)


def test_a_figure_that_older_records_lack_is_left_out_of_the_mean():
    earlier = [night(1), night(2, quarantined=6)]
    images = compare(night(3, quarantined=2), {}, earlier, DRIFT).images
    assert images["quarantined"] == Figure(2, 6)
    assert images["removed"] == Figure(0, None)


def test_nights_without_work_and_the_night_itself_are_no_earlier_nights():
    tonight = night(5)
    idle = night(4, {}, done=0, new=0)
    only_failures = night(3, {}, done=0, failed=4)
    comparison = compare(tonight, {}, [night(1), only_failures, idle, tonight], DRIFT)
    assert (comparison.nights, comparison.nights_of_model) == (2, 1)
    assert comparison.images["failed"] == Figure(0, 2)
    assert comparison.images_per_second.usual == 1.0


def test_the_first_night_is_compared_with_nothing():
    comparison = compare(night(1), {"Road": 6, "Sky": 4}, [], DRIFT)
    assert (comparison.nights, comparison.alarms) == (0, ())
    assert comparison.images["done"] == Figure(100, None)
    assert [share.before for share in comparison.classes] == [None, None]


def test_a_night_without_work_has_no_shares_and_no_alarm():
    comparison = compare(night(2, {}, done=0), {"Sky": 4}, [night(1)], DRIFT)
    assert comparison.alarms == ()
    assert comparison.images_per_second.tonight is None
    assert [(s.name, s.tonight, s.archive) for s in comparison.classes] == [
        ("Sky", None, 1.0), ("Road", None, 0.0)
    ]  # fmt: skip


def test_shares_of_the_last_nights_weigh_every_pixel_alike():
    earlier = [night(1, {"Road": 10, "Sky": 0}), night(2, {"Road": 0, "Sky": 30})]
    comparison = compare(night(3, {"Road": 1, "Sky": 1}), {"Road": 4, "Sky": 1}, earlier, DRIFT)
    assert [(s.name, s.tonight, s.before, s.archive) for s in comparison.classes] == [
        ("Road", 0.5, 0.25, 0.8), ("Sky", 0.5, 0.75, 0.2)
    ]  # fmt: skip


def test_shares_are_compared_with_nights_of_the_same_model_only():
    other = night(3, {"Water": 10}).model_copy(update={"model": "other-1"})
    comparison = compare(night(4), {}, [night(1), night(2), other], DRIFT)
    assert (comparison.nights, comparison.nights_of_model) == (3, 2)
    assert [share.name for share in comparison.classes] == ["Road", "Sky"]
    assert comparison.alarms == ()


@pytest.mark.parametrize(
    ("road", "drifted"),
    [(600, []), (650, []), (550, []), (651, ["Road", "Sky"]), (549, ["Sky", "Road"])],
)
def test_a_class_drifts_when_its_share_differs_by_more_than_the_threshold(road, drifted):
    tonight = night(3, {"Road": road, "Sky": 1000 - road})
    alarms = compare(tonight, {}, [night(1), night(2)], DRIFT).alarms
    assert sorted(names_of(alarms)) == sorted(drifted)


def test_an_alarm_says_both_shares_and_the_threshold():
    (road, _) = compare(night(3, {"Road": 7, "Sky": 3}), {}, [night(1)], DRIFT).alarms
    assert str(road) == (
        "Road: 70.0% of the pixels tonight, 60.0% in the last nights; "
        "the two may differ by 5 percentage points"
    )


def test_a_class_that_was_never_seen_before_drifts():
    tonight = night(2, {"Road": 500, "Sky": 400, "Water": 100})
    assert names_of(compare(tonight, {}, [night(1)], DRIFT).alarms) == ["Road", "Water"]


def test_without_a_threshold_nothing_drifts():
    tonight = night(2, {"Road": 0, "Sky": 1})
    assert compare(tonight, {}, [night(1)], Thresholds()).alarms == ()


@pytest.mark.parametrize(
    ("tonight", "before", "alarms"), [(10, (5, 5), 2), (9, (100, 100), 0), (100, (5, 4), 0)]
)
def test_few_images_tonight_or_before_are_no_alarm(tonight, before, alarms):
    earlier = [night(day, done=images) for day, images in enumerate(before, 1)]
    comparison = compare(night(3, {"Road": 0, "Sky": 1}, done=tonight), {}, earlier, DRIFT)
    assert len(comparison.alarms) == alarms


def test_records_of_the_first_versions_are_compared_too():
    first = {"run_id": "a", "started_at": "2026", "model": "default-1"}
    old = RunRecord(**first, images={"done": 4, "failed": 1})
    comparison = compare(night(2), {}, [old], DRIFT)
    assert (comparison.nights, comparison.nights_of_model) == (1, 0)
    assert comparison.images["failed"] == Figure(0, 1)


def test_a_comparison_can_be_written_as_json():
    comparison = compare(night(2, {"Road": 1, "Sky": 0}), {"Road": 1}, [night(1)], DRIFT)
    document = json.loads(json.dumps(comparison.to_json()))
    assert document["images"]["done"] == {"tonight": 100, "usual": 100.0}
    assert document["alarms"][0] == {"name": "Road", "tonight": 1.0, "before": 0.6, "drift": 0.05}


def test_the_most_frequent_failures_of_a_run_come_first_with_an_example(fail):
    fail("a", "tonight", ("read", "StorageError", "z.jpg", "gone"),
         ("decode", "DecodeError", "y.jpg", "not an image"))  # fmt: skip
    fail("b", "tonight", ("decode", "DecodeError", "x.jpg", "cut short"))
    output = fail("c", "yesterday", *[("read", "StorageError", "z.jpg", "gone")] * 9)
    kinds = worst_failures(output, "tonight")
    assert [(k.stage, k.error, k.failures, k.image, k.message) for k in kinds] == [
        ("decode", "DecodeError", 2, "x.jpg", "cut short"),
        ("read", "StorageError", 1, "z.jpg", "gone"),
    ]


def test_at_most_five_kinds_of_failures_are_told(fail):
    output = fail("a", "r", *(("read", f"Error{n}", "a.jpg", "no") for n in range(8)))
    assert len(worst_failures(output, "r")) == 5


def test_a_run_without_failures_has_none(tmp_path):
    assert worst_failures(str(tmp_path), "r") == []


def test_what_is_printed_holds_all_figures(capsys, fail, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    tonight = night(3, {"Road": 70, "Sky": 30}, new=12)
    comparison = compare(tonight, {"Road": 1, "Sky": 3}, [night(1), night(2, new=51)], DRIFT)
    output = fail("a", "r", ("read", "StorageError", "a.jpg", "cannot be read"))
    print_comparison(comparison, worst_failures(output, "r"))
    printed = capsys.readouterr().out
    lines = [" ".join(line.replace("│", " ").split()) for line in printed.splitlines()]
    assert "new 12 75.5" in lines
    assert "per second (median) 3.0 1.5" in lines
    assert "Road 70.0% 60.0% 25.0%" in lines
    assert "read StorageError 1 a.jpg: cannot be read" in lines


def test_what_is_not_known_is_printed_as_a_dash(capsys):
    print_comparison(compare(night(1, {}, done=0), {}, [], DRIFT))
    assert "-" in capsys.readouterr().out


def test_untrusted_text_is_printed_as_it_is_and_never_obeyed(capsys, fail, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    tonight = night(1, {"[bold]Road[/]": 1})
    output = fail("a", "r", ("read", "[red]E", "[link]a.jpg", "two\nlines \x1b[2J[/nothing]"))
    print_comparison(compare(tonight, {}, [], DRIFT), worst_failures(output, "r"))
    printed = capsys.readouterr().out
    assert "[bold]Road[/]" in printed
    assert "[link]a.jpg: two lines ?[2J[/nothing]" in printed
    assert "\x1b[2J" not in printed
