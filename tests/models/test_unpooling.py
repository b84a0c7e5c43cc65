"""Max pooling with indices and unpooling, against plain loops."""

import numpy as np
import pytest

from models.networks.unpooling import MaxPoolWithIndices, MaxUnpool

SIZES = [(4, 6), (5, 6), (4, 7), (5, 7), (1, 1), (1, 4)]


def pool_by_hand(x):
    """Maxima and the positions (row, column) they come from, for one channel."""
    height, width = x.shape
    maxima, positions = {}, {}
    for row in range(0, height, 2):
        for column in range(0, width, 2):
            cells = [
                (r, c)
                for r in (row, row + 1)
                for c in (column, column + 1)
                if r < height and c < width
            ]
            best = max(cells, key=lambda cell: x[cell])
            maxima[row // 2, column // 2] = x[best]
            positions[row // 2, column // 2] = best
    return maxima, positions


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_unpooling_puts_each_maximum_back_where_it_was(height, width):
    x = np.random.default_rng(height * width).normal(size=(2, height, width, 3)).astype(np.float32)
    maxima, indices = MaxPoolWithIndices()(x)
    unpooled = np.asarray(MaxUnpool()(maxima, indices, x))
    assert unpooled.shape == x.shape
    for image in range(2):
        for channel in range(3):
            expected_maxima, positions = pool_by_hand(x[image, :, :, channel])
            expected = np.zeros((height, width), np.float32)
            for cell, position in positions.items():
                assert np.asarray(maxima)[(image, *cell, channel)] == expected_maxima[cell]
                expected[position] = expected_maxima[cell]
            np.testing.assert_array_equal(unpooled[image, :, :, channel], expected)


def test_the_indices_place_other_values_than_the_maxima():
    x = np.array([[1.0, 5.0], [2.0, 3.0]], np.float32)[None, :, :, None]
    _, indices = MaxPoolWithIndices()(x)
    other = np.full((1, 1, 1, 1), -7.0, np.float32)
    assert np.asarray(MaxUnpool()(other, indices, x))[0, :, :, 0].tolist() == [[0, -7], [0, 0]]


def test_of_equal_values_the_first_is_the_maximum():
    _, indices = MaxPoolWithIndices()(np.zeros((1, 2, 2, 1), np.float32))
    assert np.asarray(indices).item() == 0
