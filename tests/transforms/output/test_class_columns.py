"""Class columns: a file of rows says which of its columns count pixels of a class, and of which."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms.flow.records import ExtraColumn
from transforms.output.class_columns import ClassColumn, class_columns, class_metadata

OLD_OUTPUT = Path(__file__).parents[2] / "data" / "out_of_version_0.1.tar.gz"


def test_the_file_says_the_class_and_mask_value_of_each_column(output):
    file = output.commit("one", output.segment("a.jpg"), values=[7, 3, 200])
    assert class_columns(pq.read_schema(file)) == [
        ClassColumn("pixels_sky", "Sky", 7),
        ClassColumn("pixels_tree_top", "Tree top", 3),
        ClassColumn("pixels_road", "Road", 200),
    ]


def test_the_metadata_is_one_json_value(output):
    file = output.commit("one", output.segment("a.jpg"))
    document = json.loads(pq.read_schema(file).metadata[b"citymask"])
    assert document["format"] == 1
    assert document["classes"][1] == {
        "column": "pixels_tree_top", "name": "Tree top", "value": 1
    }  # fmt: skip


def test_a_manifests_column_of_pixels_is_no_class(output):
    extra = (ExtraColumn("pixels_per_metre", "int64", 5),)
    schema = pq.read_schema(output.commit("one", output.segment("a.jpg", extra=extra)))
    assert "pixels_per_metre" in schema.names
    for each in (schema, schema.remove_metadata()):
        names = [entry.column for entry in class_columns(each)]
        assert names == ["pixels_sky", "pixels_tree_top", "pixels_road"]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"citymask": "no JSON"},
        {"citymask": "[]"},
        {"citymask": '{"format": 2, "classes": "elsewhere"}'},
        {"citymask": '{"format": 1, "classes": [{"column": "pixels_gone"}]}'},
    ],
)
def test_without_metadata_of_this_format_the_position_counts(output, metadata):
    table = pq.read_table(output.commit("one", output.segment("a.jpg")))
    found = class_columns(table.replace_schema_metadata(metadata).schema)
    assert found == [ClassColumn(f"pixels_{key}") for key in output.CLASSES.keys]


def test_files_of_version_0_1_are_read_by_position(tmp_path):
    shutil.unpack_archive(OLD_OUTPUT, tmp_path)
    files = sorted((tmp_path / "out" / "statistics").iterdir())
    (card, *_) = sorted((tmp_path / "out" / "models").iterdir())
    classes = json.loads(card.read_text())["classes"]
    expected = [f"pixels_{entry['name'].lower().replace(' ', '_')}" for entry in classes]
    for file in files:
        found = class_columns(pq.read_schema(file))
        assert [entry.column for entry in found] == expected
        assert {entry.value for entry in found} == {None}


def test_the_metadata_of_equal_classes_is_equal(output):
    """So that compaction merges the files of runs and models that share classes."""
    assert class_metadata(output.CLASSES) == class_metadata(output.CLASSES, (0, 1, 2))
    assert class_metadata(output.CLASSES) != class_metadata(output.CLASSES, (0, 1, 3))
    schema = pa.schema([], metadata=class_metadata(output.CLASSES))
    assert schema.metadata.keys() == {b"citymask"}
