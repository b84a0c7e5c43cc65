"""Surveying: the extent of the positions of an archive, found in a first pass over its rows.

It settles how coarse the map has to be.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import pyarrow as pa

from transforms.measures.hexagons import cells_of, parents_of
from transforms.measures.positions import positioned
from transforms.output import columns

FINEST = 12
"""Finest H3 resolution, with hexagons of about twenty metres: smaller than a street is no use. See
https://h3geo.org/docs/core-library/restable"""


@dataclass(frozen=True)
class Survey:
    """A survey of photos; surveys of parts of an archive add up to that of the whole.

    Attributes:
        images: how many they are.
        positioned: those with a position.
        bounds: south, west, north and east of them, degrees; None without any.
        cells: H3 cells that hold them, sorted uint64.
        resolution: of the cells: the finest with at most `limit` of them.
        limit: most cells.
    """

    limit: int
    images: int = 0
    positioned: int = 0
    bounds: tuple[float, float, float, float] | None = None
    cells: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    resolution: int = FINEST

    def __add__(self, other: "Survey") -> "Survey":
        resolution = min(self.resolution, other.resolution)
        cells = np.union1d(self._cells_at(resolution), other._cells_at(resolution))
        cells, resolution = _coarsened(cells, resolution, self.limit)
        return Survey(
            self.limit,
            self.images + other.images,
            self.positioned + other.positioned,
            _around(self.bounds, other.bounds),
            cells,
            resolution,
        )

    def _cells_at(self, resolution: int) -> np.ndarray:
        return self.cells if self.resolution == resolution else parents_of(self.cells, resolution)

    def resolution_for(self, limit: int) -> int:
        """The finest resolution, up to its own, with at most `limit` cells."""
        return _coarsened(self.cells, self.resolution, limit)[1]


def survey_of(table: pa.Table, limit: int) -> Survey:
    """The survey of statistics rows."""
    placed = positioned(table)
    if not len(placed):
        return Survey(limit, len(table))
    latitudes = placed[columns.LATITUDE].to_numpy()
    longitudes = placed[columns.LONGITUDE].to_numpy()
    cells, resolution = _coarsened(np.unique(cells_of(placed, FINEST)), FINEST, limit)
    bounds = (
        float(latitudes.min()),
        float(longitudes.min()),
        float(latitudes.max()),
        float(longitudes.max()),
    )
    return Survey(limit, len(table), len(placed), bounds, cells, resolution)


def add_surveys(surveys: Iterable[Survey], limit: int) -> Survey:
    """The sum of surveys."""
    return reduce(Survey.__add__, surveys, Survey(limit))


def _coarsened(cells: np.ndarray, resolution: int, limit: int) -> tuple[np.ndarray, int]:
    while len(cells) > limit and resolution > 0:
        resolution -= 1
        cells = parents_of(cells, resolution)
    return cells, resolution


def _around(a: tuple | None, b: tuple | None) -> tuple[float, float, float, float] | None:
    if a is None or b is None:
        return a or b
    return (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
