"""Measuring: the shares and indicators that a report shows, and their values in rows."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.classes import ClassTable
from models.indicators import Indicators
from transforms.measures import aggregating
from transforms.measures.deriving import derive
from transforms.output import columns
from transforms.reporting import contract


@dataclass(frozen=True)
class Measures:
    """The measures of a photo: class shares, then indicators.

    Attributes:
        classes: the model's classes.
        indicators: what is derived for them.
    """

    classes: ClassTable
    indicators: Indicators

    @property
    def names(self) -> list[str]:
        """Names of the measures' columns in derived rows."""
        return aggregating.measures(self.classes, self.indicators)

    @property
    def pixels(self) -> list[str]:
        """Names of the columns of pixels per class."""
        return [columns.PIXELS_PREFIX + key for key in self.classes.keys]

    def __len__(self) -> int:
        return len(self.names)

    def derive(self, table: pa.Table) -> pa.Table:
        """Statistics rows with a float64 column per measure; null where undefined."""
        return derive(table, self.classes, self.indicators)

    def values(self, derived: pa.Table) -> np.ndarray:
        """The measures of derived rows, float64 `(N, M)`; NaN where undefined."""
        return np.stack([numbers(derived[name]) for name in self.names], axis=1)

    def described(self) -> list[contract.Measure]:
        """The description of each measure for the page."""
        classes = [
            contract.Measure(
                key=each.key,
                name=each.name,
                kind=contract.CLASS,
                share=True,
                colour=each.color,
                description=f"Share of the view that is {each.name}.",
                source="",
            )
            for each in self.classes.classes
        ]
        indicators = [
            contract.Measure(
                key=each.key,
                name=each.name,
                kind=contract.INDICATOR,
                share=each.is_share,
                colour=None,
                description=each.description,
                source=each.source,
            )
            for each in self.indicators.indicators
        ]
        return classes + indicators


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column as float64 `(N,)`; NaN where it is null."""
    return pc.fill_null(pc.cast(column, pa.float64()), np.nan).to_numpy()
