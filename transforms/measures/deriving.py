"""Deriving: shares and indicators, columns that are computed on demand and never stored.

The stored values are counts. A share is a class's part of what a photo shows: of the solid angle if
the row has solid angles, as for a panorama, else of the pixels.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from models.classes import ClassTable
from models.indicators import Indicators
from transforms.output import columns
from transforms.output.schemas import EXTRA_PREFIX


def shares_of(table: pa.Table, classes: ClassTable) -> np.ndarray:
    """The share of each class in each photo.

    Args:
        table: statistics rows.
        classes: the model's classes.

    Returns:
        float64 `(N, C)` in the order of the class ids, each row adding up to 1.
    """
    weights = _matrix(table, columns.PIXELS_PREFIX, classes)
    if columns.SOLID_ANGLE_PREFIX + classes.keys[0] in table.column_names:
        angles = _matrix(table, columns.SOLID_ANGLE_PREFIX, classes)
        weights = np.where(np.isnan(angles), weights, angles)
    return weights / weights.sum(axis=1, keepdims=True)


def derive(table: pa.Table, classes: ClassTable, indicators: Indicators) -> pa.Table:
    """Add a column per share and indicator, and the version of the definitions.

    Args:
        table: statistics rows.
        classes: the model's classes.
        indicators: the indicators to derive for them.

    Returns:
        The rows followed by `share_<class>` and a column per indicator, float64; an indicator that
        is not defined for a photo is null. A manifest's column with such a name gets the prefix
        `input_`, as in statistics.
    """
    shares = shares_of(table, classes)
    values = {columns.SHARE_PREFIX + key: shares[:, c] for c, key in enumerate(classes.keys)}
    values |= {indicator.key: indicator.values(shares) for indicator in indicators.indicators}
    taken = [*values, columns.INDICATORS_VERSION]
    table = table.rename_columns(distinct_names(table.column_names, taken))
    for name, column in values.items():
        table = table.append_column(name, pa.array(column, pa.float64(), from_pandas=True))
    version = pa.repeat(indicators.version, len(table))
    return table.append_column(columns.INDICATORS_VERSION, version)


def distinct_names(names: Sequence[str], taken: Iterable[str]) -> list[str]:
    """Column names, with the prefix `input_` if they are taken or repeated, ignoring case."""
    used = {name.lower() for name in taken}
    found = []
    for name in names:
        while name.lower() in used:
            name = EXTRA_PREFIX + name
        used.add(name.lower())
        found.append(name)
    return found


def _matrix(table: pa.Table, prefix: str, classes: ClassTable) -> np.ndarray:
    """Columns of numbers as float64 `(N, C)`; null becomes NaN."""
    found = [table[prefix + key].to_numpy() for key in classes.keys]
    return np.stack(found, axis=1).astype(np.float64)
