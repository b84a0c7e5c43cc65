"""Column groups: the columns of an output are there if any image of a file has values for them."""

import pyarrow as pa
import pytest

from transforms.output.column_groups import ColumnGroup, column_groups

FIELDS = (pa.field("mean_depth", pa.float64()), pa.field("far", pa.bool_()))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([(2.5, True), (8.0, False)], [[2.5, 8.0], [True, False]]),
        ([None, (8.0, False)], [[None, 8.0], [None, False]]),
        ([None, None], []),
    ],
)
def test_an_image_without_values_has_nulls(values, expected):
    group = ColumnGroup(FIELDS, lambda item: values[item])
    arrays = group.arrays(range(len(values)))
    assert [array.to_pylist() for array in arrays] == expected
    assert [array.type for array in arrays] == [field.type for field in FIELDS[: len(arrays)]]


def test_no_two_groups_share_a_column(output):
    groups = column_groups(output.CLASSES, "tiny@0", "run1")
    names = [field.name for group in groups for field in group.fields]
    assert len(set(names)) == len(names)
