"""Mapping: photos as points on a map or, if there are too many, as hexagons."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.measures import aggregating, hexagons
from transforms.measures.positions import positioned
from transforms.output import columns
from transforms.reporting import contract
from transforms.reporting.measuring import Measures
from transforms.reporting.surveying import Survey

MOST_POINTS = 5_000
MOST_CELLS = 10_000
MOST_VALUES = 200_000
"""Features times measures: a page of 150 classes must not be ten times as heavy."""

PLACES = 6
"""Digits of degrees: a tenth of a metre."""


def most_cells(measures: Measures) -> int:
    """Most hexagons of a map."""
    return min(MOST_CELLS, MOST_VALUES // len(measures))


def shows_points(survey: Survey, measures: Measures) -> bool:
    """Whether the photos are few enough to be shown each."""
    return survey.positioned <= min(MOST_POINTS, MOST_VALUES // len(measures))


def points_of(derived: pa.Table, measures: Measures) -> pa.Table:
    """What a map shows of the derived rows that have a position."""
    kept = [columns.IMAGE, columns.LATITUDE, columns.LONGITUDE, *measures.names]
    return positioned(derived.select(kept))


def point_features(
    points: pa.Table, measures: Measures, gallery: Mapping[str, str]
) -> list[contract.Feature]:
    """A feature per photo, by name; `gallery` has the ids of gallery photos by their names."""
    points = points.sort_by(columns.IMAGE)
    names, latitudes, longitudes = (column.to_pylist() for column in points.columns[:3])
    return [
        contract.Feature(
            position=position(latitude, longitude),
            cell=None,
            name=name,
            images=1,
            values=values,
            photo=gallery.get(name),
        )
        for name, latitude, longitude, values in zip(
            names, latitudes, longitudes, rounded(points, measures), strict=True
        )
    ]


def hexagon_features(
    means: pa.Table, measures: Measures, gallery: Mapping[str, str]
) -> list[contract.Feature]:
    """A feature per H3 cell; `gallery` has the id of a gallery photo by the cell it stands in."""
    cells, images = means[aggregating.KEY].to_pylist(), means[aggregating.IMAGES].to_pylist()
    return [
        contract.Feature(
            position=position(*hexagons.centre(cell)),
            cell=[position(*corner) for corner in hexagons.corners(cell)],
            name=cell,
            images=count,
            values=values,
            photo=gallery.get(cell),
        )
        for cell, count, values in zip(cells, images, rounded(means, measures), strict=True)
    ]


def position(latitude: float, longitude: float) -> contract.Position:
    """A position with as many digits as it is worth."""
    return round(latitude, PLACES), round(longitude, PLACES)


def rounded(table: pa.Table, measures: Measures) -> list[contract.Values]:
    """The measures of each row as they stand in the document."""
    values = measures.values(table).round(contract.DIGITS)
    defined: Any = np.where(np.isnan(values), None, values.astype(object))
    return defined.tolist()
