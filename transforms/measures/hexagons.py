"""Hexagons: the H3 cells of photos. See https://h3geo.org."""

from collections.abc import Callable

import h3
import h3.api.numpy_int as h3_numbers
import numpy as np
import pyarrow as pa

from transforms.measures.positions import has_position, positioned
from transforms.output import columns

Point = tuple[float, float]
"""Longitude and latitude."""


def cells_of(placed: pa.Table, resolution: int) -> np.ndarray:
    """The cell of each photo, uint64 `(N,)`.

    Args:
        placed: rows of photos that all have a position.
        resolution: 0 to 15; see https://h3geo.org/docs/core-library/restable.
    """
    positions = zip(
        placed[columns.LATITUDE].to_pylist(), placed[columns.LONGITUDE].to_pylist(), strict=True
    )
    cells = (h3_numbers.latlng_to_cell(*position, resolution) for position in positions)
    return np.fromiter(cells, np.uint64, len(placed))


def cell_keys(table: pa.Table, resolution: int) -> pa.Array:
    """The cell of each photo as text; null without a position. Arguments as for `cells_of`."""
    found = map(h3.int_to_str, cells_of(positioned(table), resolution).tolist())
    return pa.array(
        [next(found) if has else None for has in has_position(table).to_pylist()], pa.string()
    )


def parents_of(cells: np.ndarray, resolution: int) -> np.ndarray:
    """The parents of cells at a coarser resolution, sorted uint64."""
    parents = (h3_numbers.cell_to_parent(int(cell), resolution) for cell in cells)
    return np.unique(np.fromiter(parents, np.uint64, len(cells)))


def centre(cell: str) -> tuple[float, float]:
    """Latitude and longitude of the centre of a cell."""
    return h3.cell_to_latlng(cell)


def corners(cell: str) -> list[tuple[float, float]]:
    """Latitude and longitude of each corner of a cell, counterclockwise."""
    return list(h3.cell_to_boundary(cell))


def outline(cell: str) -> dict:
    """The GeoJSON geometry of a cell.

    Its ring is counterclockwise and closed (RFC 7946, section 3.1.6). A cell that crosses the 180th
    meridian is split there (section 3.1.9).
    """
    ring = [(longitude, latitude) for latitude, longitude in corners(cell)]
    longitudes = [x for x, _ in ring]
    if max(longitudes) - min(longitudes) <= 180:
        return {"type": "Polygon", "coordinates": [_closed(ring)]}
    ring = [(x % 360, y) for x, y in ring]
    east = _cut(ring, lambda x: 180 - x)
    west = [(x - 360, y) for x, y in _cut(ring, lambda x: x - 180)]
    return {"type": "MultiPolygon", "coordinates": [[_closed(east)], [_closed(west)]]}


def _closed(ring: list[Point]) -> list[list[float]]:
    return [[x, y] for x, y in [*ring, ring[0]]]


def _cut(ring: list[Point], inside: Callable[[float], float]) -> list[Point]:
    """The part of a convex ring where `inside(x)` is not negative (Sutherland and Hodgman)."""
    found: list[Point] = []
    for (x0, y0), (x1, y1) in zip(ring[-1:] + ring[:-1], ring, strict=True):
        a, b = inside(x0), inside(x1)
        if a * b < 0:
            found.append((180.0, y0 + (y1 - y0) * a / (a - b)))
        if b >= 0:
            found.append((x1, y1))
    return found
