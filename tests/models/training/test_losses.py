import numpy as np
import pytest
import tensorflow as tf

from models.classes import IGNORE
from models.evaluation import near_border
from models.training.losses import _near_border, class_weights, segmentation_loss


def test_border_and_dice_raise_the_loss_of_what_is_missed_at_a_border():
    labels = np.zeros((1, 16, 16), np.uint8)
    labels[:, :, 8:] = 1
    logits = np.zeros((1, 16, 16, 2), np.float32)
    logits[..., 0] = np.where(labels == 0, 5, -5)
    logits[..., 1] = -logits[..., 0]
    missed = logits.copy()
    missed[:, :, 8:10] *= -1
    weights = np.ones(2, np.float32)
    plain, border = segmentation_loss(weights), segmentation_loss(weights, border_weight=4.0)
    assert float(border(labels, missed)) > float(plain(labels, missed))
    with_dice = segmentation_loss(weights, dice_weight=1.0)
    overlaps = [2 * 8 / (8 + 10), 2 * 6 / (8 + 6)]
    assert float(with_dice(labels, missed)) - float(plain(labels, missed)) == pytest.approx(
        1 - np.mean(overlaps), abs=1e-3
    )


def test_border_of_the_loss_is_that_of_the_evaluation():
    labels = np.random.default_rng(0).integers(0, 2, (2, 3, 4)).repeat(9, 1).repeat(9, 2)
    found = np.asarray(_near_border(labels.astype(np.int32)))
    for of_sample, label in zip(found, labels, strict=True):
        np.testing.assert_array_equal(of_sample.astype(bool), near_border(label.astype(np.uint8)))


def test_loss_is_the_weighted_mean_over_labelled_pixels():
    random = np.random.default_rng(0)
    logits = random.normal(size=(2, 4, 4, 3)).astype(np.float32)
    labels = random.integers(0, 3, (2, 4, 4)).astype(np.uint8)
    labels[0, 0] = IGNORE
    weights = np.array([0.5, 1.0, 2.0], np.float32)
    total = norm = 0.0
    for logit, label in zip(logits.reshape(-1, 3), labels.ravel(), strict=True):
        if label != IGNORE:
            probabilities = np.exp(logit) / np.exp(logit).sum()
            total -= weights[label] * np.log(probabilities[label])
            norm += weights[label]
    loss = segmentation_loss(weights)(labels, logits)
    assert float(loss) == pytest.approx(total / norm, rel=1e-5)


def test_loss_of_a_crop_without_labels_is_zero():
    labels = np.full((1, 8, 8), IGNORE, np.uint8)
    loss = segmentation_loss(np.ones(2, np.float32))(labels, np.zeros((1, 2, 2, 2), "f4"))
    assert float(loss) == 0


def test_shares_of_classes_count_as_class_ids_do():
    random = np.random.default_rng(0)
    logits = random.normal(size=(1, 8, 8, 3)).astype(np.float32)
    labels = random.integers(0, 3, (1, 16, 16)).astype(np.uint8)
    labels[:, :4] = IGNORE
    shares = (labels[..., None] == np.arange(3)).astype(np.float16)
    loss = segmentation_loss(np.array([1, 2, 3], np.float32), 1.0, 0.5)
    assert float(loss(shares, logits)) == pytest.approx(float(loss(labels, logits)), rel=1e-6)


def test_class_weights_favour_rare_classes_and_keep_the_mean():
    counts = np.array([900, 100, 0])
    weights = class_weights(counts, 0.5)
    assert weights[1] / weights[0] == pytest.approx(3)
    assert weights[2] == 0
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
    np.testing.assert_allclose(class_weights(counts, 0.0), [1, 1, 0])
    with pytest.raises(ValueError, match="no pixel with a class"):
        class_weights(np.zeros(3, int), 0.5)


def test_a_pixel_of_several_possible_classes_is_as_likely_as_all_of_them():
    """The gradient is that of the negative logarithm of the summed probabilities."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(1, 4, 4, 3)).astype("f4")
    possible = np.array([[1, 0, 0], [0, 1, 1]], np.float32)
    labels = random.integers(0, 2, (1, 4, 4)).astype(np.uint8)
    labels[0, 0, 0] = IGNORE
    loss = segmentation_loss(np.ones(3, np.float32), possible=possible)
    step = 1e-2

    def summed(values):
        odds = np.exp(values)
        likely = (odds * possible[np.minimum(labels, 1)]).sum(-1) / odds.sum(-1)
        return -np.log(likely)[labels != IGNORE].mean()

    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        value = loss(labels, variable)
    gradient = np.asarray(tape.gradient(value, variable))
    for place in [(0, 1, 1, 0), (0, 1, 1, 2), (0, 3, 2, 1), (0, 0, 0, 1)]:
        above, below = logits.astype("f8"), logits.astype("f8")
        above[place] += step
        below[place] -= step
        slope = (summed(above) - summed(below)) / (2 * step)
        assert gradient[place] == pytest.approx(slope, abs=1e-4)


def test_weights_of_targets_are_shared_among_their_classes():
    logits = np.zeros((1, 1, 1, 3), "f4")
    possible = np.array([[1, 0, 0], [0, 1, 1]], np.float32)
    loss = segmentation_loss(np.ones(3, np.float32), possible=possible)
    surely_first = loss(np.array([[[[1.0, 0.0]]]], "f4"), logits)
    of_two = loss(np.array([[[[0.0, 1.0]]]], "f4"), logits)
    half = loss(np.array([[[[0.5, 0.5]]]], "f4"), logits)
    for value in (surely_first, of_two, half):
        assert float(value) == pytest.approx(np.log(3), abs=1e-6)
