"""Totals: pixels, photos and the distribution of each measure over a whole archive."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa

from transforms.output import columns, precisions
from transforms.reporting import contract
from transforms.reporting.measuring import Measures

SHARE_EDGES = np.arange(51) / 50
"""Bin edges of shares, 0 to 1: two percentage points each."""

RATIO_EDGES = np.concatenate(([0], 2.0 ** np.arange(-3, 47)))
"""Bin edges of unbounded ratios: each bin is as wide as all before it together."""

BINS = len(SHARE_EDGES) - 1


@dataclass(frozen=True, eq=False)
class Totals:
    """Counts over photos; the totals of parts of an archive add up to those of the whole.

    Attributes:
        pixels: int64 `(C,)`, per class.
        images: int64 `(C,)`, photos that show the class.
        counts: int64 `(M, BINS)`, photos by the value of each measure; where it is not defined,
            they are in no bin.
        precisions: int64 `(P,)`, photos by the precision of their masks, in the order of
            `precisions.PRECISIONS`.
        compared: int64 `(2,)`, photos by whether they are unlike those the model knows, the unlike
            ones last; those of which it is not known are left out.
    """

    pixels: np.ndarray
    images: np.ndarray
    counts: np.ndarray
    precisions: np.ndarray
    compared: np.ndarray

    @property
    def unlike(self) -> int | None:
        """Photos that are unlike those the model knows; None if that is not known of any."""
        return int(self.compared[1]) if self.compared.any() else None

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.pixels + other.pixels,
            self.images + other.images,
            self.counts + other.counts,
            self.precisions + other.precisions,
            self.compared + other.compared,
        )


def totals_of(derived: pa.Table, measures: Measures) -> Totals:
    """The totals of derived rows."""
    pixels = np.stack([derived[name].to_numpy() for name in measures.pixels], axis=1)
    values = measures.values(derived)
    counts = [
        np.histogram(_within(values[:, m], edges), edges)[0]
        for m, edges in enumerate(_all_edges(measures))
    ]
    made = precisions.count(derived)
    unlike = derived[columns.UNLIKE_TRAINING].drop_null().to_numpy()
    return Totals(
        pixels.sum(axis=0),
        (pixels > 0).sum(axis=0),
        np.stack(counts),
        np.array([made[name] for name in precisions.PRECISIONS]),
        np.bincount(unlike, minlength=2),
    )


def add_totals(totals: Iterable[Totals], measures: Measures) -> Totals:
    """The sum of totals."""
    classes = np.zeros(len(measures.classes), np.int64)
    bins = np.zeros((len(measures), BINS), np.int64)
    made = np.zeros(len(precisions.PRECISIONS), np.int64)
    compared = np.zeros(2, np.int64)
    return reduce(Totals.__add__, totals, Totals(classes, classes, bins, made, compared))


def distributions(totals: Totals, measures: Measures) -> list[contract.Distribution]:
    """The distribution of each measure; for a ratio, up to the last bin that has photos."""
    found = []
    for edges, counts in zip(_all_edges(measures), totals.counts, strict=True):
        last = BINS if edges is SHARE_EDGES else max([1, *(np.flatnonzero(counts) + 1)])
        found.append(
            contract.Distribution(edges=edges[: last + 1].tolist(), counts=counts[:last].tolist())
        )
    return found


def _all_edges(measures: Measures) -> list[np.ndarray]:
    return [SHARE_EDGES if m.share else RATIO_EDGES for m in measures.described()]


def _within(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The defined values, clipped to the bins against rounding errors."""
    return values[~np.isnan(values)].clip(edges[0], edges[-1])
