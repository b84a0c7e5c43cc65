"""Shares and indicators of statistics rows."""

import numpy as np
import pyarrow as pa
import pytest

from models.classes import ClassTable
from models.indicators import Indicators
from transforms.measures.deriving import derive, shares_of

CLASSES = ClassTable.of([("Sky", (0, 0, 1)), ("Tree", (0, 1, 0)), ("Road", (1, 0, 0))])


def table(**more: list) -> pa.Table:
    return pa.table({"pixels_sky": [1, 0], "pixels_tree": [1, 4], "pixels_road": [2, 0], **more})


def test_shares_are_those_of_the_pixels():
    assert np.array_equal(shares_of(table(), CLASSES), [[0.25, 0.25, 0.5], [0, 1, 0]])


def test_shares_are_those_of_the_sphere_where_it_is_known():
    angles = {"solid_angle_sky": [None, 3.0], "solid_angle_tree": [None, 1.0]}
    known = table(**angles, solid_angle_road=[None, 0.0])
    assert np.array_equal(shares_of(known, CLASSES), [[0.25, 0.25, 0.5], [0.75, 0.25, 0]])


def test_derived_columns_stand_behind_the_stored_ones():
    indicators = Indicators.load(CLASSES)
    derived = derive(table(), CLASSES, indicators)
    assert derived.column_names == [
        *("pixels_sky", "pixels_tree", "pixels_road", "share_sky", "share_tree", "share_road"),
        *indicators.keys,
        "indicators_version",
    ]
    assert derived["green_view_index"].to_pylist() == [0.25, 1.0]
    assert derived["enclosure"].to_pylist() == [0.5, None]
    assert set(derived["indicators_version"].to_pylist()) == {indicators.version}


def test_a_column_of_the_photos_own_gives_way():
    derived = derive(table(share_sky=["a", "b"]), CLASSES, Indicators.load(CLASSES))
    assert derived["share_sky"].to_pylist() == [0.25, 0]
    assert derived["input_share_sky"].to_pylist() == ["a", "b"]


def test_no_rows():
    assert len(derive(table().slice(0, 0), CLASSES, Indicators.load(CLASSES))) == 0


@pytest.mark.parametrize("name", ["pixels_tree"])
def test_a_missing_column_is_named(name):
    with pytest.raises(KeyError, match=name):
        shares_of(table().drop_columns([name]), CLASSES)
