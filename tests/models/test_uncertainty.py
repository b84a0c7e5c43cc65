"""Uncertainty: the mean entropy of cells, as a share of the largest possible."""

import numpy as np
import pytest

from models.uncertainty import CELLS, grid_step, mean_entropy


def test_it_is_the_mean_entropy_at_a_temperature():
    logits = np.random.default_rng(0).normal(0, 4, (30, 40, 5)).astype(np.float32)
    for temperature in (0.5, 1.0, 3.0):
        scores = np.exp(logits.astype(np.float64) / temperature)
        p = scores / scores.sum(axis=2, keepdims=True)
        expected = -(p * np.log(p)).sum(axis=2).mean() / np.log(5)
        assert mean_entropy(logits, temperature) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([7.0, 7.0, 7.0], 1),
        ([1e4, -1e4, 0.0], 0),
        ([3.0], 0),
        ([5.0, 5.0, -1e4], np.log(2) / np.log(3)),
    ],
)
def test_it_is_from_0_to_1(logits, expected):
    cells = np.tile(np.float32(logits), (3, 4, 1))
    assert mean_entropy(cells, 1.0) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (8, 16), (96, 128), (384, 512), (1, 5000)])
def test_the_grid_has_a_thousand_cells_or_some_more(shape):
    step = grid_step(*shape)
    cells = -(-shape[0] // step) * -(-shape[1] // step)
    assert min(CELLS, shape[0] * shape[1]) <= cells or shape[0] == 1
    assert cells <= 5 * CELLS
