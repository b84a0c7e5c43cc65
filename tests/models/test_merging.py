import pytest

from models.classes import ClassTable
from models.merging import MergedClasses

CITYSCAPES = ClassTable.load("cityscapes")
SMALL = ClassTable.of([("Sky", (0, 0, 255)), ("Tree", (0, 9, 0)), ("Grass", (0, 99, 0))])


def parse(*rows, classes=SMALL, header="class,merged"):
    return MergedClasses.parse("\n".join([header, *rows]) + "\n", "mapping.csv", classes)


def test_classes_without_a_row_stay_and_nothing_is_lost():
    merged = parse("vegetation,green", "terrain,green", classes=CITYSCAPES)
    assert len(merged.names) == 18 and "green" in merged.keys and "road" in merged.keys
    pixels = list(range(19))
    sums = dict(zip(merged.names, merged.merge(pixels), strict=True))
    assert sum(sums.values()) == sum(pixels)
    names = CITYSCAPES.names
    assert sums["green"] == names.index("vegetation") + names.index("terrain")
    assert sums["road"] == names.index("road")


def test_a_class_may_go_into_another_one():
    merged = parse("Grass,Tree")
    assert merged.names == ("Sky", "Tree")
    assert merged.merge((1, 2, 3)) == (1, 5)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Bush,green", "line 2: unknown class 'Bush'; the model has Sky, Tree, Grass"),
        ("Tree,green\nTree,blue", "line 3: class 'Tree' is given twice"),
        ("Tree,", "line 2: class 'Tree' has no merged class"),
        ("Tree,a b\nGrass,a_b", "equal column names"),
    ],
)
def test_a_bad_mapping_is_refused_with_file_and_line(row, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse(row)
    assert "mapping.csv" in str(caught.value)


def test_other_columns_are_refused():
    with pytest.raises(ValueError, match="expected \\['class', 'merged'\\]"):
        parse(header="from,to")
