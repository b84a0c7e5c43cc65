"""Means of shares and indicators per group, hexagon and archive."""

import h3
import numpy as np
import pyarrow as pa
import pytest

from models.classes import ClassTable
from models.indicators import Indicators
from transforms.measures.aggregating import (
    add_sums,
    archive_keys,
    group_keys,
    means,
    measures,
    sums_per_key,
)
from transforms.measures.deriving import derive
from transforms.measures.hexagons import cell_keys

CLASSES = ClassTable.of([("Sky", (0, 0, 1)), ("Tree", (0, 1, 0)), ("Road", (1, 0, 0))])
INDICATORS = Indicators.load(CLASSES)
WANTED = measures(CLASSES, INDICATORS)


def photos() -> pa.Table:
    """Four photos of two groups; enclosure is not defined for the second: it shows no road."""
    table = pa.table(
        {
            "group": ["lund", "lund", "trier", "lund"],
            "pixels_sky": [1, 0, 3, 2],
            "pixels_tree": [1, 4, 0, 0],
            "pixels_road": [2, 0, 1, 2],
            "latitude": [55.7, 55.7, None, -33.9],
            "longitude": [13.19, 13.19, 13.0, 151.2],
        }
    )
    return derive(table, CLASSES, INDICATORS)


def test_a_measure_is_averaged_over_the_photos_that_it_is_defined_for():
    table = photos()
    found = means(sums_per_key(table, group_keys(table), WANTED))
    assert found.column_names == ["key", "images", *WANTED]
    lund, trier = found.to_pylist()
    assert (lund["key"], lund["images"]) == ("lund", 3)
    assert lund["share_tree"] == pytest.approx((0.25 + 1 + 0) / 3)
    assert lund["enclosure"] == pytest.approx((0.5 + 0) / 2)
    assert (trier["images"], trier["sky_view"], trier["enclosure"]) == (1, 0.75, 0)


def test_a_measure_that_is_defined_for_no_photo_has_no_mean():
    table = photos().slice(1, 1)
    (row,) = means(sums_per_key(table, archive_keys(table), WANTED)).to_pylist()
    assert row["enclosure"] is None and row["share_tree"] == 1


@pytest.mark.parametrize("cut", range(5))
def test_sums_of_parts_add_up_to_those_of_the_whole(cut):
    table = photos()
    parts = [table.slice(0, cut), table.slice(cut)]
    added = means(add_sums(sums_per_key(part, group_keys(part), WANTED) for part in parts))
    whole = means(sums_per_key(table, group_keys(table), WANTED))
    assert added["images"].equals(whole["images"])
    for name in WANTED:
        assert np.allclose(added[name].to_numpy(), whole[name].to_numpy(), equal_nan=True)


def test_photos_without_a_position_stand_in_no_hexagon():
    table = photos()
    cells = cell_keys(table, 9)
    assert cells.to_pylist()[2] is None
    found = means(sums_per_key(table, cells, WANTED))
    assert sum(found["images"].to_pylist()) == 3
    assert set(found["key"].to_pylist()) == {
        h3.latlng_to_cell(55.7, 13.19, 9),
        h3.latlng_to_cell(-33.9, 151.2, 9),
    }


def test_no_photos():
    table = photos().slice(0, 0)
    assert means(sums_per_key(table, cell_keys(table, 9), WANTED)).num_rows == 0
