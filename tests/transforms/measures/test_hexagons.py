"""Hexagons: the H3 cell of each photo, and the outline of a cell."""

import h3
import pyarrow as pa
import pytest
import shapely

from transforms.measures.hexagons import cell_keys, cells_of, outline, parents_of
from transforms.measures.positions import has_position, positioned

PHOTOS = pa.table({"latitude": [55.7, None, -33.9, 1.0], "longitude": [13.19, 13.0, 151.2, None]})


def test_a_photo_has_a_position_if_both_numbers_are_known():
    assert has_position(PHOTOS).to_pylist() == [True, False, True, False]
    assert positioned(PHOTOS).to_pylist() == [PHOTOS.to_pylist()[n] for n in (0, 2)]


def test_each_photo_with_a_position_stands_in_a_cell():
    expected = [h3.latlng_to_cell(55.7, 13.19, 9), h3.latlng_to_cell(-33.9, 151.2, 9)]
    assert cell_keys(PHOTOS, 9).to_pylist() == [expected[0], None, expected[1], None]
    assert [h3.int_to_str(cell) for cell in cells_of(positioned(PHOTOS), 9).tolist()] == expected


def test_parents_hold_the_finer_cells():
    cells = cells_of(positioned(PHOTOS), 9)
    parents = parents_of(cells, 2)
    expected = {h3.cell_to_parent(h3.int_to_str(cell), 2) for cell in cells.tolist()}
    assert {h3.int_to_str(cell) for cell in parents.tolist()} == expected
    assert len(parents_of(parents, 0)) == 2


def test_a_cell_has_a_closed_ring_that_goes_round_counterclockwise():
    cell = h3.latlng_to_cell(55.7, 13.2, 9)
    (ring,) = outline(cell)["coordinates"]
    assert len(ring) == 7 and ring[0] == ring[-1]
    shape = shapely.Polygon(ring)
    assert shape.exterior.is_ccw
    assert shape.contains(shapely.Point(*h3.cell_to_latlng(cell)[::-1]))


@pytest.mark.parametrize("latitude", [-17.0, 65.0])
def test_a_cell_on_the_180th_meridian_is_cut_in_two(latitude):
    cell = h3.latlng_to_cell(latitude, 180.0, 4)
    shape = shapely.geometry.shape(outline(cell))
    assert shape.geom_type == "MultiPolygon" and shape.is_valid
    west, east = sorted(shape.geoms, key=lambda part: part.bounds[0])
    assert west.bounds[0] == -180 and west.bounds[2] < -179
    assert east.bounds[2] == 180 and east.bounds[0] > 179
    moved = [((x + 360) % 360, y) for y, x in h3.cell_to_boundary(cell)]
    assert shape.area == pytest.approx(shapely.Polygon(moved).area)
