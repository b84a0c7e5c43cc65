"""The loss of a segmentation network: weighted cross entropy and Dice loss."""

from collections.abc import Callable

import numpy as np
from keras import ops

from models.classes import IGNORE
from models.evaluation import BORDER_DISTANCE

LEAST_PROBABILITY = 1e-20
"""Taken instead of less, so that it can be divided by."""


def class_weights(counts: np.ndarray, balance: float) -> np.ndarray:
    """Class weights frequency ** -balance, with mean 1 over the labelled pixels.

    Args:
        counts: pixels of each class, or shares of them, (classes,).
        balance: exponent; 0 weights all pixels alike, 1 all classes.

    Returns:
        float32 (classes,); 0 for a class without a pixel.

    Raises:
        ValueError: no pixel has a class.
    """
    total = counts.sum()
    if not total:
        raise ValueError("the training labels hold no pixel with a class; check the class table")
    present = counts > 0
    weights = np.zeros(len(counts), np.float64)
    weights[present] = (counts[present] / total) ** -balance
    return (weights / (weights * counts / total).sum()).astype(np.float32)


def segmentation_loss(
    weights: np.ndarray,
    border_weight: float = 0.0,
    dice_weight: float = 0.0,
    possible: np.ndarray | None = None,
) -> Callable:
    """Return a loss function of labels and logits: cross entropy plus optional Dice loss.

    Labels are target ids (N, H, W) or the weight of each target (N, H, W, T); logits are
    (N, h, w, C). The logits are interpolated to the labels' size, so that thin objects keep their
    labels. Pixels with `IGNORE` do not count.

    A pixel that may be one of several classes is weighted by the probabilities that the network
    gives them: the gradient of the cross entropy is then that of the negative logarithm of their
    sum.

    Args:
        weights: of the classes in the cross entropy, float32 (C,).
        border_weight: pixels near a class border have 1 + `border_weight` times the weight of
            others in the cross entropy.
        dice_weight: factor on the soft Dice loss (Milletari et al., "V-Net", 3DV 2016): one minus
            the mean Dice coefficient of the classes in the batch, which weights all classes alike.
        possible: the classes each target allows, see `models.label_mappings.possible_classes`;
            None: targets are the classes.
    """
    allowed = np.eye(len(weights), dtype=np.float32) if possible is None else possible

    def loss(labels, logits):
        logits = ops.image.resize(
            ops.cast(logits, "float32"), ops.shape(labels)[1:3], interpolation="bilinear"
        )
        log_probabilities = ops.log_softmax(logits)
        # The weights of a pixel without a class are all zeros.
        if len(labels.shape) == 4:
            given = ops.cast(labels, "float32")
            labels = ops.where(ops.any(labels > 0, axis=-1), ops.argmax(labels, axis=-1), IGNORE)
        else:
            given = ops.one_hot(ops.cast(labels, "int32"), len(allowed), dtype="float32")
        targets = _expected(given, allowed, ops.exp(log_probabilities))
        pixel_weights = ops.matmul(targets, ops.convert_to_tensor(weights[:, None]))[..., 0]
        if border_weight:
            pixel_weights *= 1 + border_weight * _near_border(labels)
        losses = -ops.sum(targets * log_probabilities, axis=-1)
        total = ops.sum(losses * pixel_weights) / ops.maximum(ops.sum(pixel_weights), 1.0)
        if dice_weight:
            total += dice_weight * (1 - _mean_dice(targets, ops.exp(log_probabilities)))
        return total

    return loss


def _expected(given, allowed, probabilities):
    """The weight of each class, given those of the targets and the network's probabilities.

    A target's weight is divided among its classes as the network divides it, a constant.
    """
    likely = ops.maximum(ops.stop_gradient(probabilities), LEAST_PROBABILITY)
    of_targets = ops.matmul(likely, ops.convert_to_tensor(allowed.T))
    return likely * ops.matmul(given / of_targets, ops.convert_to_tensor(allowed))


def _near_border(labels):
    """`models.evaluation.near_border` for a batch of class ids (N, H, W), as float32 0 or 1."""
    values = ops.cast(labels, "float32")[..., None]
    size = 2 * BORDER_DISTANCE + 1
    largest = ops.max_pool(values, size, 1, "same")
    smallest = -ops.max_pool(-values, size, 1, "same")
    return ops.cast(largest != smallest, "float32")[..., 0]


def _mean_dice(targets, probabilities):
    """Mean soft Dice coefficient of the classes in `targets`, one-hot (N, H, W, C)."""
    labelled = ops.sum(targets, axis=-1, keepdims=True)
    overlap = ops.sum(targets * probabilities, axis=(0, 1, 2))
    label_sizes = ops.sum(targets, axis=(0, 1, 2))
    sizes = label_sizes + ops.sum(probabilities * labelled, axis=(0, 1, 2))
    present = ops.cast(label_sizes > 0, "float32")
    dices = present * 2 * overlap / ops.maximum(sizes, 1.0)
    return ops.sum(dices) / ops.maximum(ops.sum(present), 1.0)
