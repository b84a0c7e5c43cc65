"""From low-resolution logits to a full-size mask and its class counts, in one pass.

The mask is the argmax of the bilinearly interpolated logits, with the half-pixel centres of
`tf.image.resize` and `cv2.resize`. Interpolating every class at every pixel costs more than a fast
network. But bilinear interpolation is a convex combination: where one class has the largest logit
at all four corners of a cell, it has the largest one at every pixel between them. Only the cells
where corners disagree are interpolated, so the result is that of the plain way, ties aside.
"""

import numba
import numpy as np


def logits_to_mask(logits: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Class ids and class counts at `height` x `width` pixels.

    Args:
        logits: float32 array of shape `(h, w, classes)`, finite, any `h` and `w`.
        height: rows of the mask.
        width: columns of the mask.

    Returns:
        The mask, uint8 of shape `(height, width)`, and the pixels of each class, int64 of shape
        `(classes,)`, which add up to `height * width`.
    """
    mask = np.empty((height, width), np.uint8)
    counts = np.zeros(logits.shape[2], np.int64)
    _fill_mask(
        np.ascontiguousarray(logits, np.float32),
        np.argmax(logits, axis=2).astype(np.uint8),
        *_neighbours(logits.shape[0], height),
        *_neighbours(logits.shape[1], width),
        mask,
        counts,
    )
    return mask, counts


def _neighbours(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each target pixel: the source cells before and after it, and the weight of the latter."""
    position = (np.arange(target, dtype=np.float64) + 0.5) * (source / target) - 0.5
    position = np.clip(position, 0, source - 1)
    before = position.astype(np.int64)
    after = np.minimum(before + 1, source - 1)
    return before, after, (position - before).astype(np.float32)


@numba.njit(nogil=True, cache=True)
def _fill_mask(logits, labels, tops, bottoms, row_weights, lefts, rights, weights, mask, counts):
    height, width = mask.shape
    classes = logits.shape[2]
    left_column = np.empty(classes, np.float32)
    slope = np.empty(classes, np.float32)
    for y in range(height):
        top, bottom, row_weight = tops[y], bottoms[y], row_weights[y]
        x = 0
        while x < width:
            left, right = lefts[x], rights[x]
            end = x + 1
            while end < width and lefts[end] == left:
                end += 1
            label = labels[top, left]
            if (
                label == labels[top, right]
                and label == labels[bottom, left]
                and label == labels[bottom, right]
            ):
                mask[y, x:end] = label
                counts[label] += end - x
            else:
                for c in range(classes):
                    a = logits[top, left, c]
                    b = logits[top, right, c]
                    a += (logits[bottom, left, c] - a) * row_weight
                    b += (logits[bottom, right, c] - b) * row_weight
                    left_column[c] = a
                    slope[c] = b - a
                for pixel in range(x, end):
                    weight = weights[pixel]
                    best = 0
                    highest = left_column[0] + slope[0] * weight
                    for c in range(1, classes):
                        value = left_column[c] + slope[c] * weight
                        if value > highest:
                            highest = value
                            best = c
                    mask[y, pixel] = best
                    counts[best] += 1
            x = end
