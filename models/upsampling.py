"""From low-resolution logits to a full-size mask, its class counts and its confidence.

The mask is the argmax of the bilinearly interpolated logits, with the half-pixel centres of
`tf.image.resize` and `cv2.resize`. Interpolating every class at every pixel costs more than a fast
network. But bilinear interpolation is a convex combination: where one class has the largest logit
at all four corners of a cell, it has the largest one at every pixel between them. Only the cells
where corners disagree are interpolated, so the result is that of the plain way, ties aside.

The confidence is the softmax probability of the chosen class. Along a row of pixels in one cell a
logit's difference to the chosen one rises evenly, so its exponential is a geometric sequence: two
calls of `exp` serve all pixels of the row, and one multiplication each.
"""

import numba
import numpy as np

NEGLIGIBLE = -20.0
"""Of a class whose logit is so much below the chosen one, `exp` (2e-9) is left out of the sum."""


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
        neighbours(logits.shape[0], height),
        neighbours(logits.shape[1], width),
        mask,
        counts,
    )
    return mask, counts


def logits_to_confidence(logits: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The softmax probability of the class chosen at each pixel, and its sum for each class.

    Args:
        logits: float32 array of shape `(h, w, classes)`, as given to `logits_to_mask`.
        mask: the class ids that `logits_to_mask` chose, uint8 of shape `(height, width)`.

    Returns:
        The probability as `round(255 * p)`, uint8 of shape `(height, width)`, and the sums of the
        unrounded probabilities over the pixels of each class, float64 of shape `(classes,)`.
    """
    height, width = mask.shape
    confidence = np.empty((height, width), np.uint8)
    sums = np.zeros(logits.shape[2], np.float64)
    _fill_confidence(
        np.ascontiguousarray(logits, np.float32),
        mask,
        neighbours(logits.shape[0], height),
        neighbours(logits.shape[1], width),
        confidence,
        sums,
    )
    return confidence, sums


def neighbours(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What target pixels along one axis are interpolated from.

    Returns:
        The source pixels before and after each target pixel, the same one twice at the margins,
        and the weight of the latter; then the bounds of the runs of target pixels that share both:
        a run begins at each of them but the last, which is `target`.
    """
    position = (np.arange(target, dtype=np.float64) + 0.5) * (source / target) - 0.5
    cell = np.floor(position).astype(np.int64)
    weight = (position - cell).astype(np.float32)
    starts = np.flatnonzero(np.diff(cell, prepend=-2))
    bounds = np.append(starts, target)
    return np.clip(cell, 0, source - 1), np.clip(cell + 1, 0, source - 1), weight, bounds


@numba.njit(nogil=True, cache=True)
def _fill_mask(logits, labels, rows, columns, mask, counts):
    tops, bottoms, row_weights, _ = rows
    lefts, rights, weights, bounds = columns
    classes = logits.shape[2]
    base = np.empty(classes, np.float32)
    slope = np.empty(classes, np.float32)
    for y in range(len(tops)):
        top, bottom = tops[y], bottoms[y]
        for run in range(len(bounds) - 1):
            start, end = bounds[run], bounds[run + 1]
            left, right = lefts[start], rights[start]
            label = labels[top, left]
            if (
                label == labels[top, right]
                and label == labels[bottom, left]
                and label == labels[bottom, right]
            ):
                mask[y, start:end] = label
                counts[label] += end - start
            else:
                _interpolate(logits, top, bottom, row_weights[y], left, right, base, slope)
                for x in range(start, end):
                    best = 0
                    highest = base[0] + slope[0] * weights[x]
                    for c in range(1, classes):
                        value = base[c] + slope[c] * weights[x]
                        if value > highest:
                            highest = value
                            best = c
                    mask[y, x] = best
                    counts[best] += 1


@numba.njit(nogil=True, cache=True)
def _fill_confidence(logits, mask, rows, columns, confidence, sums):
    tops, bottoms, row_weights, _ = rows
    lefts, rights, weights, bounds = columns
    base = np.empty(logits.shape[2], np.float32)
    slope = np.empty(logits.shape[2], np.float32)
    totals = np.empty(len(lefts), np.float64)
    for y in range(len(tops)):
        for run in range(len(bounds) - 1):
            start, run_end = bounds[run], bounds[run + 1]
            left, right = lefts[start], rights[start]
            _interpolate(logits, tops[y], bottoms[y], row_weights[y], left, right, base, slope)
            while start < run_end:
                label = mask[y, start]
                end = start + 1
                while end < run_end and mask[y, end] == label:
                    end += 1
                _sum_exponentials(base, slope, label, weights[start:end], totals[start:end])
                probabilities = 0.0
                for x in range(start, end):
                    probability = 1 / totals[x]
                    confidence[y, x] = np.uint8(255 * probability + 0.5)
                    probabilities += probability
                sums[label] += probabilities
                start = end


@numba.njit(nogil=True, cache=True)
def _interpolate(logits, top, bottom, row_weight, left, right, base, slope):
    """Each class's logit across a cell at one row: `base + slope * weight` of the right pixel."""
    for c in range(logits.shape[2]):
        a = logits[top, left, c]
        b = logits[top, right, c]
        a += (logits[bottom, left, c] - a) * row_weight
        b += (logits[bottom, right, c] - b) * row_weight
        base[c] = a
        slope[c] = b - a


@numba.njit(nogil=True, cache=True)
def _sum_exponentials(base, slope, label, weights, totals):
    """Sum `exp(logit - logit of label)` over the classes, at pixels of one cell and row.

    Each class is summed from the pixel on where it is largest, so nothing can overflow.
    """
    pixels = len(weights)
    totals[:] = 1
    for c in range(len(base)):
        difference = base[c] - base[label]
        rise = slope[c] - slope[label]
        first = difference + rise * weights[0]
        last = difference + rise * weights[-1]
        highest = max(first, last)
        if c == label or highest < NEGLIGIBLE:
            continue
        term = np.exp(np.float64(highest))
        ratio = np.exp(-np.float64(abs(last - first)) / max(1, pixels - 1))
        x, step = (0, 1) if first > last else (pixels - 1, -1)
        for _ in range(pixels):
            totals[x] += term
            term *= ratio
            x += step
