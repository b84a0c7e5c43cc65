"""How data sets are stated on the command line."""

from pathlib import Path

import pytest

from models.classes import ClassTable
from pipeline.commands.data_sets import DataSet


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Folders of the current one, some with names that look like statements."""
    for name in ("streets", "a:b", "year=2020", "odd:mapping.csv"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("streets", DataSet("streets", "streets")),
        ("streets/", DataSet("streets", "streets/")),
        ("streets:m.csv", DataSet("streets", "streets", "m.csv")),
        ("streets:maps/m.csv:2.5", DataSet("streets", "streets", "maps/m.csv", 2.5)),
        ("streets::0.5", DataSet("streets", "streets", None, 0.5)),
        ("x=a:b::3", DataSet("x", "a:b", None, 3.0)),
        ("here=streets", DataSet("here", "streets")),
        ("two words=streets:m.csv", DataSet("two words", "streets", "m.csv")),
        ("a:b", DataSet("a:b", "a:b")),
        ("a:b:m.csv:2", DataSet("a:b", "a:b", "m.csv", 2.0)),
        ("x=a:b:m.csv", DataSet("x", "a:b", "m.csv")),
        ("year=2020", DataSet("year=2020", "year=2020")),
        ("year=2020:m.csv", DataSet("year=2020", "year=2020", "m.csv")),
        ("x=year=2020", DataSet("x", "year=2020")),
        ("odd:mapping.csv", DataSet("odd:mapping.csv", "odd:mapping.csv")),
        ("gs://bucket/streets", DataSet("streets", "gs://bucket/streets")),
        ("missing/a=b", DataSet("a=b", "missing/a=b")),
    ],
)
def test_a_statement_gives_name_folder_mapping_and_weight(folders, text, expected):
    assert DataSet.parse(text) == expected


def test_the_current_folder_is_called_by_its_own_name(folders, tmp_path):
    assert DataSet.parse(".").name == tmp_path.name


@pytest.mark.parametrize("weight", ["", "0", "-1", "much", "nan", "inf"])
def test_a_weight_is_a_number_above_0(folders, weight):
    with pytest.raises(ValueError, match=f"ends in the weight '{weight}'; expected a number above"):
        DataSet.parse(f"streets:m.csv:{weight}")


def test_labels_of_other_classes_need_a_mapping(folders):
    classes = ClassTable.of([("Left", (1, 1, 1)), ("Right", (2, 2, 2))])
    DataSet.parse("streets").check_classes(classes)
    Path("streets/classes.csv").write_text("name,red,green,blue\nUp,1,1,1\nDown,2,2,2\n")
    with pytest.raises(ValueError, match=r"streets: the labels have the classes Up, Down, .*Left"):
        DataSet.parse("streets").check_classes(classes)
    DataSet.parse("streets:mapping.csv").check_classes(classes)
