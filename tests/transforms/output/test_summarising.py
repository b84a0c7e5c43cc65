"""Summarising: counts add up to the summary of the archive and of each group."""

import csv
import io
import json
from dataclasses import replace

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from models.classes import ClassTable
from models.engines import Precision
from models.uncertainty import Uncertainty
from transforms import CountCommitted, RemoveSuperseded, SummarisePixels
from transforms.flow.records import (
    UNKNOWN_CAPTURE,
    Failure,
    ImageRef,
    PlannedImage,
    Segmented,
    SkippedImages,
    UnitResult,
)
from transforms.output import parquet, rows
from transforms.output.summarising import (
    ArchiveCounts,
    GroupCounts,
    counts_of_files,
    counts_of_result,
    counts_of_skipped,
    counts_of_undone,
    write_summary,
)
from transforms.output.summary import CSV_COLUMNS
from transforms.planning.deciding import Superseded
from transforms.storage import StorageError

CLASSES = ClassTable.of([("Sky", (0, 0, 255)), ("Traffic Sign", (9, 9, 9))])
MODEL = "tiny@0123456789ab"

INT8, F32, UNKNOWN = (1, 0, 0, 0, 0), (0, 0, 0, 1, 0), (0, 0, 0, 0, 1)
"""Counts of one row by its precision."""

LUND = GroupCounts("lund", 2, failed=1, pixels=(30, 10), images=(2, 1), precisions=(2, 0, 0, 0, 0))
MALMO = GroupCounts("malmö", 1, skipped=1, pixels=(60, 0), images=(1, 0), precisions=F32)


def planned(image="lund/01.jpg", group="lund") -> PlannedImage:
    ref = ImageRef(image, f"/a/{image}", f"/a/{image}", "10-1", group)
    return PlannedImage(ref, f"masks/{image}.png")


def segmented(
    image="lund/01.jpg", group="lund", pixels=(4, 2), precision=Precision.INT8
) -> Segmented:
    return Segmented(planned(image, group), 3, 2, UNKNOWN_CAPTURE, pixels, precision)


def failure(image="lund/broken.jpg", group="lund") -> Failure:
    return Failure(planned(image, group), "decode", "DecodeError", "empty")


def commit(output, unit_id, *items, model=MODEL, classes=CLASSES, run_id="run1") -> str:
    rows.commit(str(output), UnitResult(unit_id, items, ()), classes, model, run_id)
    return str(output / "statistics" / f"{unit_id}.parquet")


def archive_counts() -> ArchiveCounts:
    return ArchiveCounts(CLASSES, replace(LUND + MALMO, group=""), {"malmö": MALMO, "lund": LUND})


class TestGroupCounts:
    def test_add_up_number_by_number(self):
        total = GroupCounts("lund", 1, 2, 3, 7, (10, 20), (1, 0)) + GroupCounts(
            "lund", 4, 5, 6, 8, (1, 2), (1, 1)
        )
        assert total == GroupCounts("lund", 5, 7, 9, 15, (11, 22), (2, 1))

    def test_without_pixels_leave_pixels_as_they_are(self):
        failed = GroupCounts("lund", failed=1)
        assert failed + LUND == replace(LUND, failed=2)
        assert LUND + failed == replace(LUND, failed=2)
        assert failed + failed == GroupCounts("lund", failed=2)

    def test_of_other_classes_do_not_add_up(self):
        with pytest.raises(ValueError):
            LUND + GroupCounts("lund", pixels=(1, 2, 3), images=(1, 1, 1))

    def test_of_a_unit_are_its_rows_and_failures(self):
        items = segmented(pixels=(6, 0)), segmented("b.jpg", precision=Precision.F32)
        result = UnitResult("u", items, (failure(),))
        assert list(counts_of_result(result)) == [
            GroupCounts("lund", done=1, pixels=(6, 0), images=(1, 0), precisions=INT8),
            GroupCounts("lund", done=1, pixels=(4, 2), images=(1, 1), precisions=F32),
            GroupCounts("lund", failed=1),
        ]
        assert list(counts_of_undone(result)) == [GroupCounts("lund", failed=1)]

    def test_of_photos_that_are_unlike_are_known_or_not(self):
        unknown, none, one = (GroupCounts("lund", 1, unlike=number) for number in (None, 0, 1))
        assert (unknown + unknown).unlike is None
        assert (unknown + none).unlike == (none + unknown).unlike == 0
        assert (one + none + unknown + one).unlike == 2
        items = [
            replace(segmented(), uncertainty=Uncertainty(0.5, is_unlike))
            for is_unlike in (True, False)
        ]
        counts = counts_of_result(UnitResult("u", (*items, segmented()), ()))
        assert [entry.unlike for entry in counts] == [1, 0, None]

    def test_of_a_skipped_image_hold_no_pixels(self):
        assert counts_of_skipped(SkippedImages("lund", 7)) == GroupCounts("lund", skipped=7)


class TestSummary:
    def test_as_json_follows_the_contract(self):
        assert archive_counts().summary().to_document() == {
            "images": {"done": 3, "failed": 1, "skipped": 1},
            "classes": [
                {"name": "Sky", "pixels": 90, "fraction": 0.9, "images": 3},
                {"name": "Traffic Sign", "pixels": 10, "fraction": 0.1, "images": 1},
            ],
            "precisions": {"int8": 2, "f32": 1},
            "groups": {
                "lund": {
                    "images": {"done": 2, "failed": 1, "skipped": 0},
                    "classes": [
                        {"name": "Sky", "pixels": 30, "fraction": 0.75, "images": 2},
                        {"name": "Traffic Sign", "pixels": 10, "fraction": 0.25, "images": 1},
                    ],
                },
                "malmö": {
                    "images": {"done": 1, "failed": 0, "skipped": 1},
                    "classes": [
                        {"name": "Sky", "pixels": 60, "fraction": 1.0, "images": 1},
                        {"name": "Traffic Sign", "pixels": 0, "fraction": 0.0, "images": 0},
                    ],
                },
            },
        }

    def test_as_json_lists_groups_by_name(self):
        assert list(archive_counts().summary().to_document()["groups"]) == ["lund", "malmö"]

    def test_of_nothing_has_zeros_for_each_class(self):
        zero = {"pixels": 0, "fraction": 0.0, "images": 0}
        assert ArchiveCounts(CLASSES).summary().to_document() == {
            "images": {"done": 0, "failed": 0, "skipped": 0},
            "classes": [{"name": "Sky", **zero}, {"name": "Traffic Sign", **zero}],
            "precisions": {},
            "groups": {},
        }

    def test_as_csv_is_the_same_as_a_table(self):
        table = list(csv.DictReader(io.StringIO(archive_counts().summary().to_csv())))
        assert tuple(table[0]) == CSV_COLUMNS
        document = archive_counts().summary().to_document()
        assert [row["group"] for row in table] == ["", "", "lund", "lund", "malmö", "malmö"]
        for row in table:
            entry = document["groups"][row["group"]] if row["group"] else document
            cell = next(c for c in entry["classes"] if c["name"] == row["class"])
            assert int(row["images_done"]) == entry["images"]["done"]
            assert int(row["images_failed"]) == entry["images"]["failed"]
            assert int(row["images_skipped"]) == entry["images"]["skipped"]
            assert int(row["pixels"]) == cell["pixels"]
            assert float(row["fraction"]) == cell["fraction"]
            assert int(row["images"]) == cell["images"]

    def test_is_written_as_both(self, tmp_path):
        write_summary(archive_counts(), str(tmp_path))
        document = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
        assert document == archive_counts().summary().to_document()
        assert (tmp_path / "summary.csv").read_text(
            encoding="utf-8"
        ) == archive_counts().summary().to_csv()

    def test_that_cannot_be_written_raises(self, tmp_path):
        (tmp_path / "summary.json").mkdir()
        with pytest.raises(StorageError, match="summary.json: cannot be written"):
            write_summary(archive_counts(), str(tmp_path))


class TestSummarisePixels:
    def test_adds_up_per_group_and_for_the_archive(self):
        counts = [
            *[
                GroupCounts("lund", 1, pixels=(15, 5), images=(1, n), precisions=INT8)
                for n in (0, 1)
            ],
            GroupCounts("lund", failed=1),
            GroupCounts("malmö", skipped=1),
            GroupCounts("malmö", done=1, pixels=(60, 0), images=(1, 0), precisions=F32),
        ]
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            result = pipeline | beam.Create(counts) | SummarisePixels(CLASSES)
            documents = result | beam.Map(lambda found: found.summary().to_document())
            assert_that(documents, equal_to([archive_counts().summary().to_document()]))

    def test_of_nothing_is_one_empty_summary(self):
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            counts = pipeline | beam.Create([], reshuffle=False).with_output_types(GroupCounts)
            assert_that(counts | SummarisePixels(CLASSES), equal_to([ArchiveCounts(CLASSES)]))


class TestCountCommitted:
    def test_counts_photos_that_are_unlike_where_rows_say_so(self, tmp_path):
        odd, usual = (
            replace(segmented(), uncertainty=Uncertainty(0.5, is_unlike))
            for is_unlike in (True, False)
        )
        files = [commit(tmp_path, "one", odd, usual, segmented()), commit(tmp_path, "old", usual)]
        files.append(commit(tmp_path, "older", segmented()))
        found = [list(counts_of_files([file], MODEL, CLASSES)) for file in files]
        assert [[entry.unlike for entry in of_file] for of_file in found] == [[1], [0], [None]]

    def test_a_column_of_that_name_that_is_none_of_ours_is_left_alone(self, tmp_path):
        file = commit(tmp_path, "one", segmented())
        table = pq.read_table(file)
        pq.write_table(table.append_column("unlike_training", pa.array(["yes"])), file)
        (counts,) = counts_of_files([file], MODEL, CLASSES)
        assert counts.unlike is None

    def test_counts_the_rows_of_the_model_in_every_file(self, tmp_path):
        commit(tmp_path, "one", segmented("a.jpg", "lund"), segmented("b.jpg", "malmö", (6, 0)))
        commit(tmp_path, "two", segmented("c.jpg", "lund", (0, 6)))
        other = ClassTable.of([("Water", (1, 1, 1))])
        commit(tmp_path, "other", segmented(pixels=(6,)), model="other@0", classes=other)
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            counts = pipeline | beam.Create([str(tmp_path)]) | CountCommitted(MODEL, CLASSES)
            assert_that(
                counts,
                equal_to(
                    [
                        GroupCounts("lund", 1, pixels=(4, 2), images=(1, 1), precisions=INT8),
                        GroupCounts("malmö", 1, pixels=(6, 0), images=(1, 0), precisions=INT8),
                        GroupCounts("lund", 1, pixels=(0, 6), images=(0, 1), precisions=INT8),
                    ]
                ),
            )

    def test_of_a_file_adds_up_the_images_of_a_group(self, tmp_path):
        file = commit(
            tmp_path, "one", *(segmented(f"{n}.jpg", pixels=(n, 6 - n)) for n in range(7))
        )
        assert list(counts_of_files([str(file)], MODEL, CLASSES)) == [
            GroupCounts("lund", 7, pixels=(21, 21), images=(6, 6), precisions=(7, 0, 0, 0, 0))
        ]

    def test_of_a_file_of_two_precisions_counts_the_rows_of_each(self, tmp_path):
        items = (segmented(f"{p.value}.jpg", precision=p) for p in (Precision.INT8, Precision.F32))
        file = commit(tmp_path, "one", *items)
        assert sorted(counts.precisions for counts in counts_of_files([file], MODEL, CLASSES)) == [
            F32, INT8,
        ]  # fmt: skip

    @pytest.mark.parametrize("values", [None, ["3 m"], [2.5], [{"metres": 3}], [None]], ids=str)
    def test_of_an_older_file_does_not_know_the_precision_whatever_a_manifest_called_so(
        self, tmp_path, values
    ):
        file = commit(tmp_path, "one", segmented())
        table = pq.read_table(file).drop_columns("precision")
        pq.write_table(table.append_column("precision", [values]) if values else table, file)
        (counts,) = counts_of_files([file], MODEL, CLASSES)
        assert (counts.done, counts.precisions) == (1, UNKNOWN)

    def test_of_a_file_of_another_model_is_nothing(self, tmp_path):
        other = ClassTable.of([("Water", (1, 1, 1))])
        file = commit(tmp_path, "one", segmented(pixels=(6,)), model="other@0", classes=other)
        assert list(counts_of_files([str(file)], MODEL, CLASSES)) == []

    def test_does_not_overflow_on_a_planet_of_photos(self, tmp_path):
        many = 2**40
        file = commit(
            tmp_path, "one", *(segmented(f"{n}.jpg", pixels=(many, many)) for n in range(3))
        )
        (counts,) = counts_of_files([str(file)], MODEL, CLASSES)
        assert counts.pixels == (3 * many, 3 * many)


class TestRemoveSuperseded:
    def run(self, output, superseded, results) -> None:
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            old = pipeline | "Old" >> beam.Create(superseded)
            new = pipeline | "New" >> beam.Create(results)
            _ = {"superseded": old, "results": new} | RemoveSuperseded(str(output))

    def images(self, file) -> list[str]:
        return pq.read_table(file)["image"].to_pylist()

    def test_drops_the_rows_of_images_that_were_done_anew(self, tmp_path):
        file = commit(tmp_path, "one", *(segmented(f"{name}.jpg") for name in "abcd"))
        results = [
            UnitResult("two", (segmented("a.jpg"),), ()),
            UnitResult("three", (segmented("c.jpg"), segmented("new.jpg")), ()),
        ]
        self.run(tmp_path, [Superseded(f"{name}.jpg", "run1", file) for name in "ac"], results)
        assert self.images(file) == ["b.jpg", "d.jpg"]

    def test_keeps_the_row_of_an_image_that_failed_this_time(self, tmp_path):
        file = commit(tmp_path, "one", segmented("a.jpg"), segmented("b.jpg"))
        results = [UnitResult("two", (segmented("b.jpg"),), (failure("a.jpg"),))]
        self.run(
            tmp_path,
            [Superseded("a.jpg", "run1", file), Superseded("b.jpg", "run1", file)],
            results,
        )
        assert self.images(file) == ["a.jpg"]

    def test_drops_doubled_rows_whatever_becomes_of_the_image(self, tmp_path):
        file = commit(tmp_path, "one", segmented("a.jpg"), segmented("b.jpg"))
        self.run(
            tmp_path, [Superseded("a.jpg", "run1", file, doubled=True)], [UnitResult("two", (), ())]
        )
        assert self.images(file) == ["b.jpg"]

    def test_of_rows_of_one_image_in_one_file_only_that_of_the_run_goes(self, tmp_path):
        old = commit(tmp_path, "old", segmented("a.jpg"))
        commit(tmp_path, "new", segmented("a.jpg"), run_id="run2")
        merged = pq.read_table(tmp_path / "statistics")
        pq.write_table(merged, old)
        self.run(tmp_path, [Superseded("a.jpg", "run1", old, doubled=True)], [])
        assert pq.read_table(old)["run_id"].to_pylist() == ["run2"]

    def test_removes_a_file_without_rows_and_never_the_new_one(self, tmp_path):
        old = commit(tmp_path, "old", segmented("a.jpg"))
        new = commit(tmp_path, "new", segmented("a.jpg"), run_id="run2")
        self.run(
            tmp_path,
            [Superseded("a.jpg", "run1", old)],
            [UnitResult("new", (segmented("a.jpg"),), ())],
        )
        assert parquet.files_in(str(tmp_path), "statistics") == [new]
