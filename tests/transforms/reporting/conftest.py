"""Derived rows of photos along a few streets, made from numbers."""

import numpy as np
import pyarrow as pa
import pytest

from models.classes import ClassTable
from models.indicators import Indicators
from transforms.reporting.measuring import Measures

CLASSES = ClassTable.of(
    [("Sky", (0, 0, 1)), ("Tree", (0, 1, 0)), ("Road", (1, 0, 0)), ("Building", (1, 1, 0))]
)
PHOTOS = 240


@pytest.fixture(scope="session")
def measures() -> Measures:
    return Measures(CLASSES, Indicators.load(CLASSES))


@pytest.fixture(scope="session")
def derived(measures) -> pa.Table:
    """Photos of which a third has no position; classes are often absent, so values are equal."""
    random = np.random.default_rng(3)
    pixels = random.multinomial(1000, [0.4, 0.3, 0.2, 0.1], PHOTOS)
    absent = random.uniform(size=pixels.shape) < 0.4
    absent[:, 0] = False
    pixels[absent] = 0
    numbers = np.arange(PHOTOS)
    placed = numbers % 3 > 0
    none = [None] * PHOTOS
    uncertainty = np.random.default_rng(4).uniform(0, 1, PHOTOS).round(1)
    table = pa.table(
        {
            "image": [f"street {n % 7}/{n:03}.jpg" for n in numbers],
            "uri": [f"/a/{n:03}.jpg" for n in numbers],
            "version": ["1-1"] * PHOTOS,
            "mask": [f"masks/{n:03}.png" for n in numbers],
            "group": [f"street {n % 7}" for n in numbers],
            "width": pixels.sum(axis=1),
            "height": [1] * PHOTOS,
            "latitude": np.where(placed, 55.7 + random.normal(0, 0.01, PHOTOS), np.nan),
            "longitude": 13.2 + random.normal(0, 0.02, PHOTOS),
            "captured_at": pa.array(none, pa.timestamp("us")),
            "projection": pa.array(none, pa.string()),
            "heading": pa.array(none, pa.float64()),
            "precision": np.where(placed, "int8", "f32"),
            "confidence": random.uniform(0.5, 1, PHOTOS).round(1),
            "uncertainty": uncertainty,
            "unlike_training": pa.array(uncertainty > 0.7, mask=numbers % 5 == 0),
            **{f"pixels_{key}": pixels[:, c] for c, key in enumerate(CLASSES.keys)},
        }
    )
    latitudes = pa.array(table["latitude"].to_numpy(), from_pandas=True)
    table = table.set_column(table.column_names.index("latitude"), "latitude", latitudes)
    return measures.derive(table)


@pytest.fixture(scope="session")
def split():
    """A function that spreads rows over parts, however many and however large they are."""

    def split(table: pa.Table, seed: int) -> list[pa.Table]:
        random = np.random.default_rng(seed)
        order = random.permutation(len(table))
        cuts = np.sort(random.integers(0, len(table), random.integers(0, 6)))
        return [table.take(part) for part in np.split(order, cuts) if len(part)]

    return split
