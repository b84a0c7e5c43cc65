"""How unsure a network is of a whole photo, which tells photos that are unlike those it knows.

The uncertainty is the mean entropy of the probabilities at a photo's pixels, as a share of the
largest that is possible: 0 where the network is sure of a class everywhere, 1 where all classes are
as likely. Networks tend to be less sure of photos that are unlike those of their training, though
often sure enough to be wrong: see Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and
Out-of-Distribution Examples in Neural Networks" (ICLR 2017).

It is taken at the network's output stride, from a grid of a thousand cells or a few more, so that
it costs next to nothing.
"""

import math
from dataclasses import dataclass

import numpy as np

CELLS = 1024
"""Cells of the grid, at the least; all, if there are fewer."""


@dataclass(frozen=True)
class Uncertainty:
    """How unsure a network is of a photo.

    Attributes:
        entropy: see `mean_entropy`.
        is_unlike: whether it is above what the model states for photos such as it knows.
    """

    entropy: float
    is_unlike: bool


def grid_step(rows: int, columns: int) -> int:
    """Every how many rows and columns there is a cell of the grid."""
    return max(1, math.isqrt(rows * columns // CELLS))


def mean_entropy(logits: np.ndarray, temperature: float) -> float:
    """The mean entropy over cells, 0..1.

    Args:
        logits: float32 array of shape `(h, w, classes)`, those of the cells.
        temperature: what they are divided by before their softmax.
    """
    classes = logits.shape[2]
    if classes == 1:
        return 0.0
    # Classes come first, as sums over a long axis take far less time.
    scores = np.ascontiguousarray(logits.reshape(-1, classes).T)
    scores = (scores - scores.max(axis=0)) / np.float32(temperature)
    weights = np.exp(scores)
    totals = weights.sum(axis=0)
    entropies = np.log(totals) - (weights * scores).sum(axis=0) / totals
    return min(max(float(entropies.mean(dtype=np.float64)) / math.log(classes), 0.0), 1.0)
