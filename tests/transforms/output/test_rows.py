"""Rows: Parquet files by the output contract, which other libraries read as they are."""

import json
from collections import Counter
from dataclasses import replace
from datetime import datetime

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from models.classes import ClassTable
from models.engines import Precision
from models.merging import MergedClasses
from models.segmenter import Confidence
from transforms import storage
from transforms.flow.records import (
    UNKNOWN_CAPTURE,
    Capture,
    ExtraColumn,
    Failure,
    ImageRef,
    PlannedImage,
    Segmented,
    UnitResult,
)
from transforms.output import parquet, rows, schemas

CLASSES = ClassTable.of([("Sky", (0, 0, 255)), ("Traffic Sign", (9, 9, 9)), ("Road", (1, 1, 1))])
MODEL = "tiny@0123456789ab"
CAPTURE = Capture(48.5, 9.25, datetime(2024, 7, 9, 3, 25, 24, 45000), 24.5)


def segmented(image="lund/01.jpg", capture=UNKNOWN_CAPTURE, extra=()) -> Segmented:
    ref = ImageRef(
        image=image,
        uri=f"/a/{image}",
        path=f"/a/{image}",
        version="10-1",
        group="lund",
        extra=extra,
    )
    planned = PlannedImage(ref, f"masks/{image}.png")
    return Segmented(planned, 3, 2, capture, pixels=(1, 2, 3), precision=Precision.INT8)


def failure(image="broken.jpg", attempts=0) -> Failure:
    planned = replace(segmented(image).planned, attempts=attempts)
    return Failure(planned, "decode", "DecodeError", "empty file (0 bytes)")


def table_of(*items: Segmented) -> pa.Table:
    return schemas.statistics_table(items, CLASSES, MODEL, "run1")


def extra_column(*values: ExtraColumn) -> pa.ChunkedArray:
    """The column that extra values of one name, one per row, become."""
    items = [segmented(f"{n}.jpg", extra=(value,)) for n, value in enumerate(values)]
    return table_of(*items)[values[0].name]


class TestStatistics:
    def test_columns_stand_in_the_order_and_types_of_the_contract(self):
        assert [(field.name, field.type) for field in table_of(segmented()).schema] == [
            ("image", pa.string()),
            ("uri", pa.string()),
            ("version", pa.string()),
            ("width", pa.int64()),
            ("height", pa.int64()),
            ("latitude", pa.float64()),
            ("longitude", pa.float64()),
            ("captured_at", pa.timestamp("us")),
            ("heading", pa.float64()),
            ("mask", pa.string()),
            ("model", pa.string()),
            ("run_id", pa.string()),
            ("precision", pa.string()),
            ("pixels_sky", pa.int64()),
            ("pixels_traffic_sign", pa.int64()),
            ("pixels_road", pa.int64()),
            ("projection", pa.string()),
            ("group", pa.string()),
        ]

    def test_a_row_says_everything_of_its_image(self):
        (row,) = table_of(segmented(capture=CAPTURE)).to_pylist()
        assert row == {
            "image": "lund/01.jpg",
            "uri": "/a/lund/01.jpg",
            "version": "10-1",
            "width": 3,
            "height": 2,
            "latitude": 48.5,
            "longitude": 9.25,
            "captured_at": datetime(2024, 7, 9, 3, 25, 24, 45000),
            "heading": 24.5,
            "mask": "masks/lund/01.jpg.png",
            "model": MODEL,
            "run_id": "run1",
            "precision": "int8",
            "pixels_sky": 1,
            "pixels_traffic_sign": 2,
            "pixels_road": 3,
            "projection": "perspective",
            "group": "lund",
        }

    def test_what_is_unknown_of_a_capture_is_null(self):
        (row,) = table_of(segmented()).to_pylist()
        assert {row[name] for name in ("latitude", "longitude", "captured_at", "heading")} == {None}

    def test_only_captures_may_be_null(self):
        nullable = {field.name for field in table_of(segmented()).schema if field.nullable}
        assert nullable == {"latitude", "longitude", "captured_at", "heading"}


class TestConfidence:
    ITEM = replace(segmented(), values={"confidence": Confidence.of((0.5, 0.0, 2.7), (1, 0, 3))})

    def test_is_the_mean_over_all_pixels_and_over_those_of_each_class(self):
        confidence = self.ITEM.values["confidence"]
        assert confidence.mean == pytest.approx(0.8)
        assert confidence.classes == (0.5, None, pytest.approx(0.9))

    def test_columns_stand_behind_the_pixels_of_classes_and_merged_classes(self):
        merged = MergedClasses(("Things", "Road"), (0, 0, 1))
        table = schemas.statistics_table([self.ITEM], CLASSES, MODEL, "run1", merged)
        names = ["confidence", "confidence_sky", "confidence_traffic_sign", "confidence_road"]
        assert table.column_names[16:] == [
            "merged_things",
            "merged_road",
            *names,
            "projection",
            "group",
        ]
        assert {table.schema.field(name).type for name in names} == {pa.float64()}
        (row,) = table.to_pylist()
        assert [row[name] for name in names] == pytest.approx([0.8, 0.5, None, 0.9])

    def test_columns_are_absent_where_no_image_has_it(self):
        assert not [n for n in table_of(segmented()).column_names if "confidence" in n]

    @pytest.mark.parametrize("name", ["confidence", "confidence_sky"])
    @pytest.mark.parametrize("item", [segmented(), ITEM])
    def test_columns_of_metadata_never_take_its_names(self, item, name):
        ref = replace(item.planned.ref, extra=(ExtraColumn(name, "string", "theirs"),))
        table = table_of(replace(item, planned=replace(item.planned, ref=ref)))
        assert table.column_names[-1] == f"input_{name}"
        assert table[f"input_{name}"].to_pylist() == ["theirs"]
        assert table.column_names.count(name) == (item is self.ITEM)


class TestExtraColumns:
    def test_follow_the_contract_with_their_types_and_values(self):
        extra = (
            ExtraColumn("camera", "string", "left"),
            ExtraColumn("floor", "int64", 2),
            ExtraColumn("speed", "double", 7.5),
            ExtraColumn("panorama", "bool", True),
            ExtraColumn("uploaded", "timestamp[us]", datetime(2024, 7, 10)),
        )
        table = table_of(segmented(extra=extra))
        assert table.column_names[18:] == ["camera", "floor", "speed", "panorama", "uploaded"]
        for entry in extra:
            assert table.schema.field(entry.name).type == pa.type_for_alias(entry.arrow_type)
            assert table[entry.name].to_pylist() == [entry.value]

    def test_of_some_images_only_are_null_for_the_others(self):
        items = segmented("a.jpg"), segmented("b.jpg", extra=(ExtraColumn("floor", "int64", 2),))
        assert table_of(*items)["floor"].to_pylist() == [None, 2]

    @pytest.mark.parametrize("name", ["image", "run_id", "precision", "pixels_sky", "group"])
    def test_whose_name_the_statistics_use_get_a_prefix(self, name):
        table = table_of(segmented(extra=(ExtraColumn(name, "string", "theirs"),)))
        assert table[f"input_{name}"].to_pylist() == ["theirs"]
        assert table.column_names.count(name) == 1
        assert table[name].to_pylist() != ["theirs"]

    def test_whose_prefixed_name_is_taken_as_well_are_both_kept(self):
        extra = ExtraColumn("image", "string", "a"), ExtraColumn("input_image", "string", "b")
        for order in (extra, extra[::-1]):
            table = table_of(segmented(extra=order))
            assert len(set(table.column_names)) == len(table.column_names) == 20
            assert table["input_image"].to_pylist() == ["b"]
            assert table["input_input_image"].to_pylist() == ["a"]

    def test_of_mixed_types_become_text(self):
        column = extra_column(
            ExtraColumn("floor", "int64", 2),
            ExtraColumn("floor", "string", "ground"),
            ExtraColumn("floor", "double", None),
        )
        assert column.type == pa.string()
        assert column.to_pylist() == ["2", "ground", None]

    def test_beyond_a_thousand_are_text_in_one_column_the_most_common_keep_theirs(self):
        items = [
            segmented(
                f"{row}.jpg",
                extra=(
                    *(ExtraColumn(f"own {row} {n}", "int64", n) for n in range(100)),
                    ExtraColumn("camera", "string", "left"),
                ),
            )
            for row in range(100)
        ]
        table = table_of(*items)
        own = [name for name in table.column_names if name.startswith("own")]
        assert len(own) == schemas.MAX_EXTRA_COLUMNS - 1
        assert table["camera"].to_pylist() == ["left"] * 100
        further = json.loads(table[schemas.FURTHER_METADATA][99].as_py())
        assert further == {f"own 99 {n}": n for n in range(100)}
        assert table[schemas.FURTHER_METADATA][0].as_py() is None

    def test_of_whole_numbers_and_fractions_are_fractions(self):
        column = extra_column(ExtraColumn("speed", "int64", 2), ExtraColumn("speed", "double", 2.5))
        assert column.type == pa.float64()
        assert column.to_pylist() == [2.0, 2.5]


class TestFailures:
    def test_columns_stand_in_the_order_and_types_of_the_contract(self):
        table = schemas.failure_table([failure(attempts=2)], "run1")
        assert [(field.name, field.type) for field in table.schema] == [
            ("image", pa.string()),
            ("uri", pa.string()),
            ("version", pa.string()),
            ("stage", pa.string()),
            ("error", pa.string()),
            ("message", pa.string()),
            ("attempts", pa.int64()),
            ("run_id", pa.string()),
        ]
        assert table.to_pylist() == [
            {
                "image": "broken.jpg",
                "uri": "/a/broken.jpg",
                "version": "10-1",
                "stage": "decode",
                "error": "DecodeError",
                "message": "empty file (0 bytes)",
                "attempts": 3,
                "run_id": "run1",
            }
        ]

    def test_what_could_not_be_written_is_no_attempt_that_brings_a_photo_into_quarantine(self):
        unwritten = replace(failure(attempts=2), stage="write")
        assert schemas.failure_table([unwritten], "run1")["attempts"].to_pylist() == [2]


class TestCommit:
    @pytest.fixture
    def output(self, tmp_path):
        """Two units: one whose manifest had a column more, one with a failure."""
        extra = (ExtraColumn("floor", "int64", 2),)
        first = UnitResult("one", (segmented("a.jpg", CAPTURE, extra=extra),), ())
        second = UnitResult("two", (segmented("b.jpg"), segmented("c.jpg")), (failure(),))
        for result in (first, second):
            rows.commit(str(tmp_path), result, CLASSES, MODEL, "run1")
        return tmp_path

    def test_writes_one_file_per_unit_and_kind(self, output):
        assert parquet.files_in(str(output), "statistics") == [
            str(output / "statistics" / "one.parquet"),
            str(output / "statistics" / "two.parquet"),
        ]
        assert parquet.files_in(str(output), "failures") == [
            str(output / "failures" / "two.parquet")
        ]

    def test_of_the_same_unit_twice_writes_the_same_bytes(self, output):
        file = output / "statistics" / "two.parquet"
        before = file.read_bytes()
        result = UnitResult("two", (segmented("b.jpg"), segmented("c.jpg")), (failure(),))
        rows.commit(str(output), result, CLASSES, MODEL, "run1")
        assert file.read_bytes() == before

    def test_without_any_success_writes_no_statistics(self, tmp_path):
        rows.commit(str(tmp_path), UnitResult("u", (), (failure(),)), CLASSES, MODEL, "run1")
        assert not (tmp_path / "statistics").exists()

    def test_leaves_no_unfinished_file(self, output):
        assert {path.suffix for path in output.rglob("*") if path.is_file()} == {".parquet"}

    def test_that_cannot_write_raises(self, tmp_path):
        (tmp_path / "statistics").write_text("in the way")
        with pytest.raises(storage.StorageError, match="cannot be written"):
            result = UnitResult("u", (segmented(),), ())
            rows.commit(str(tmp_path), result, CLASSES, MODEL, "run1")

    def test_duckdb_reads_all_rows(self, output):
        query = f"""
            select image, latitude, captured_at, pixels_traffic_sign / (width * height), floor
            from read_parquet('{output}/statistics/*.parquet', union_by_name = true) order by image
        """
        assert duckdb.sql(query).fetchall() == [
            ("a.jpg", 48.5, datetime(2024, 7, 9, 3, 25, 24, 45000), 2 / 6, 2),
            ("b.jpg", None, None, 2 / 6, None),
            ("c.jpg", None, None, 2 / 6, None),
        ]
        failures = duckdb.sql(f"select stage, attempts from '{output}/failures/*.parquet'")
        assert failures.fetchall() == [("decode", 1)]

    def test_pandas_reads_the_folder(self, output):
        frame = pd.read_parquet(output / "statistics").sort_values("image", ignore_index=True)
        assert frame["image"].tolist() == ["a.jpg", "b.jpg", "c.jpg"]
        assert frame["captured_at"][0] == pd.Timestamp("2024-07-09 03:25:24.045")
        assert frame["captured_at"].isna().tolist() == [False, True, True]
        pixels = frame.filter(like="pixels_")
        assert (pixels.sum(axis=1) == frame["width"] * frame["height"]).all()

    def test_a_pyarrow_dataset_reads_the_folder(self, output):
        dataset = ds.dataset(output / "statistics")
        assert dataset.count_rows() == 3
        located = dataset.to_table(filter=ds.field("latitude") > 0, columns=["image"])
        assert located.to_pylist() == [{"image": "a.jpg"}]

    def test_committed_rows_are_those_of_the_model(self, output):
        result = UnitResult("other", (segmented("a.jpg"),), ())
        rows.commit(str(output), result, CLASSES, "other@0", "run2")
        files = parquet.files_in(str(output), "statistics")
        found = list(rows.committed_rows(files, MODEL))
        assert [row.image for row in found] == ["a.jpg", "b.jpg", "c.jpg"]
        assert found[1] == rows.CommittedRow(
            image="b.jpg",
            uri="/a/b.jpg",
            version="10-1",
            mask="masks/b.jpg.png",
            run_id="run1",
            file=str(output / "statistics" / "two.parquet"),
        )

    def test_models_in_names_each_model_with_its_mask_folders_and_precisions(self, output):
        items = segmented(), replace(segmented("d.jpg"), precision=Precision.F32)
        rows.commit(str(output), UnitResult("x", items, ()), CLASSES, "other@0", "run2")
        assert rows.models_in(str(output)) == {
            MODEL: rows.PresentRows({"masks"}, Counter(int8=3)),
            "other@0": rows.PresentRows({"masks"}, Counter(int8=1, f32=1)),
        }
        assert rows.models_in(str(output / "nowhere")) == {}

    def test_past_failures_are_read_back(self, output):
        file = str(output / "failures" / "two.parquet")
        (failure,) = rows.past_failures([file])
        assert failure == rows.PastFailure("broken.jpg", "10-1", 1, "DecodeError")
        assert not failure.has_killed


class TestDropRows:
    @pytest.fixture
    def file(self, tmp_path):
        items = tuple(segmented(f"{name}.jpg", CAPTURE) for name in "abc")
        rows.commit(str(tmp_path), UnitResult("one", items, ()), CLASSES, MODEL, "run1")
        return tmp_path / "statistics" / "one.parquet"

    def of(self, names):
        return [(f"{name}.jpg", "run1") for name in names]

    def test_keeps_rows_of_other_runs(self, file):
        rows.drop_rows(str(file.parents[1]), str(file), [("a.jpg", "run2")])
        assert pq.read_table(file).num_rows == 3

    def test_keeps_the_other_rows_and_the_schema(self, file):
        before = pq.read_table(file)
        rows.drop_rows(str(file.parents[1]), str(file), self.of("ac"))
        after = pq.read_table(file)
        assert after.schema.equals(before.schema, check_metadata=True)
        assert after.to_pylist() == before.to_pylist()[1:2]

    def test_removes_the_file_with_its_last_row(self, file):
        rows.drop_rows(str(file.parents[1]), str(file), self.of("abc"))
        assert not file.exists()

    def test_repeated_does_no_harm(self, file):
        for _ in range(2):
            rows.drop_rows(str(file.parents[1]), str(file), self.of("abc"))
        assert not file.exists()
