"""Reading: small files together, each in the same columns."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.classes import ClassTable
from transforms.output.archives import Archive
from transforms.reporting.reading import OF_PHOTO, read_photos

CLASSES = ClassTable.of([("Sky", (0, 0, 1)), ("Road", (1, 0, 0))])


@pytest.fixture
def archive(tmp_path) -> Archive:
    return Archive(str(tmp_path), "m@1", CLASSES, (0, 1), {})


@pytest.fixture
def write(tmp_path):
    """A function that writes rows to a file of a name, with further columns."""

    def write(name: str, rows: int, model: str = "m@1", **columns) -> str:
        base = {key: pa.array([None] * rows, kind) for key, kind in OF_PHOTO.items()}
        for column in ("projection", "confidence"):
            del base[column]
        base["image"] = [f"{name}/{n}" for n in range(rows)]
        pixels = {"pixels_sky": np.arange(rows), "pixels_road": np.ones(rows, np.int64)}
        table = pa.table({**base, "model": [model] * rows, **pixels, **columns})
        pq.write_table(table, tmp_path / name)
        return str(tmp_path / name)

    return write


def test_small_files_come_together_and_large_ones_apart(archive, write):
    files = [write("a", 4), write("b", 5), write("c", 3), write("d", 2)]
    tables = list(read_photos(archive, files, least_rows=10))
    assert [len(table) for table in tables] == [12, 2]
    images = [i for table in tables for i in table["image"].to_pylist()]
    assert len(images) == len(set(images)) == 14


def test_columns_that_a_file_lacks_are_null(archive, write):
    angles = {"solid_angle_sky": [1.0, 2.0], "solid_angle_road": [3.0, 4.0]}
    files = [write("a", 2), write("b", 2, confidence=[0.5, 0.6], **angles)]
    (table,) = read_photos(archive, files)
    assert table["confidence"].to_pylist() == [None, None, 0.5, 0.6]
    assert table["solid_angle_road"].to_pylist() == [None, None, 3.0, 4.0]


def test_a_column_of_another_type_is_the_users_own(archive, write):
    (table,) = read_photos(archive, [write("a", 2, projection=[1, 2], confidence=["a", "b"])])
    assert table["projection"].null_count == table["confidence"].null_count == 2


def test_rows_of_other_models_are_none_of_them(archive, write):
    files = [write("a", 2), write("b", 3, model="other@1")]
    assert [len(table) for table in read_photos(archive, files)] == [2]
    assert list(read_photos(archive, files[1:])) == []
