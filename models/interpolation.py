"""The compiled loops of `models.upsampling` and `models.panoramas`.

They are a module of their own because importing Numba takes time. They release the GIL, and their
machine code is cached on disk. Spans are filled by assigning to slices, which compiles to one
`memset`; a loop over the pixels takes far longer.
"""

import numba
import numpy as np

NEGLIGIBLE = -20.0
"""Classes with a logit this far below the chosen one (`exp`: 2e-9) are left out of the sum."""


@numba.njit(nogil=True, cache=True)
def fill_mask(logits, rows, columns, mask, counts):
    """Fill a mask from logits, and add its pixels to the class counts.

    Adjacent cells whose corners all have the same class are filled at once.

    Args:
        logits: float32, C-contiguous, of shape `(h, w, classes)`.
        rows: `models.upsampling.neighbours` of the mask's rows.
        columns: `models.upsampling.neighbours` of the mask's columns.
        mask: uint8 of shape `(height, width)`.
        counts: int64 of shape `(classes,)`.
    """
    tops, bottoms, row_weights, row_bounds = rows
    lefts, rights, weights, bounds = columns
    labels = _highest(logits)
    candidates = np.empty(logits.shape[2], np.uint8)
    corners = np.empty((4, logits.shape[2]), np.float32)
    values = np.empty(np.diff(bounds).max(), np.float32)
    for cells in range(len(row_bounds) - 1):
        first, last = row_bounds[cells], row_bounds[cells + 1]
        top, bottom = tops[first], bottoms[first]
        run = 0
        while run < len(bounds) - 1:
            start = bounds[run]
            left, right = lefts[start], rights[start]
            label = labels[top, left]
            agreed = run
            while agreed < len(bounds) - 1 and _agree(
                labels, label, top, bottom, lefts[bounds[agreed]], rights[bounds[agreed]]
            ):
                agreed += 1
            if agreed > run:
                run = agreed
                end = bounds[run]
                for y in range(first, last):
                    mask[y, start:end] = label
                counts[label] += (last - first) * (end - start)
            else:
                run += 1
                end = bounds[run]
                found = _find_candidates(logits, top, bottom, left, right, candidates, corners)
                for y in range(first, last):
                    line = mask[y, start:end]
                    _fill_line(
                        corners,
                        candidates[:found],
                        row_weights[y],
                        weights[start:end],
                        values,
                        line,
                    )
                    for x in range(len(line)):
                        counts[line[x]] += 1


@numba.njit(nogil=True, cache=True)
def _highest(logits):
    """Return the class of the highest logit, the first of equal ones: uint8 `(h, w)`."""
    height, width, classes = logits.shape
    labels = np.empty((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            best = 0
            highest = logits[y, x, 0]
            for c in range(1, classes):
                if logits[y, x, c] > highest:
                    highest = logits[y, x, c]
                    best = c
            labels[y, x] = best
    return labels


@numba.njit(nogil=True, cache=True)
def _agree(labels, label, top, bottom, left, right):
    return (
        labels[top, left] == label
        and labels[top, right] == label
        and labels[bottom, left] == label
        and labels[bottom, right] == label
    )


@numba.njit(nogil=True, cache=True)
def _find_candidates(logits, top, bottom, left, right, candidates, corners):
    """Collect the classes that can win inside a cell, and their logits at its four corners.

    A class cannot win if its highest corner is below the lowest corner of another class.

    Returns:
        The number of candidates.
    """
    floor = np.float32(-np.inf)
    for c in range(logits.shape[2]):
        lowest = min(
            min(logits[top, left, c], logits[top, right, c]),
            min(logits[bottom, left, c], logits[bottom, right, c]),
        )
        floor = max(floor, lowest)
    found = 0
    for c in range(logits.shape[2]):
        corners[0, found] = logits[top, left, c]
        corners[1, found] = logits[top, right, c]
        corners[2, found] = logits[bottom, left, c]
        corners[3, found] = logits[bottom, right, c]
        candidates[found] = c
        if (
            corners[0, found] >= floor
            or corners[1, found] >= floor
            or corners[2, found] >= floor
            or corners[3, found] >= floor
        ):
            found += 1
    return found


@numba.njit(nogil=True, cache=True)
def _fill_line(corners, candidates, row_weight, weights, values, line):
    """Fill one row of a cell's pixels with the candidate of the highest logit."""
    for i in range(len(candidates)):
        a = corners[0, i]
        b = corners[1, i]
        a += (corners[2, i] - a) * row_weight
        b += (corners[3, i] - b) * row_weight
        slope = b - a
        label = candidates[i]
        if i == 0:
            for x in range(len(line)):
                values[x] = a + slope * weights[x]
                line[x] = label
        else:
            for x in range(len(line)):
                value = a + slope * weights[x]
                higher = value > values[x]
                values[x] = value if higher else values[x]
                line[x] = label if higher else line[x]


@numba.njit(nogil=True, cache=True)
def fill_mask_from_ids(ids, rows, columns, mask, counts):
    """Fill a mask from class ids, uint8 `(h, w)`, and add its pixels to the class counts.

    Each pixel has the class to which the bilinear weights of the four cells around it add up to
    most, the lowest one of equals. The other arguments are those of `fill_mask`.
    """
    tops, bottoms, row_weights, _ = rows
    lefts, rights, weights, bounds = columns
    for y in range(len(tops)):
        top, bottom, down = tops[y], bottoms[y], np.float64(row_weights[y])
        for run in range(len(bounds) - 1):
            start, end = bounds[run], bounds[run + 1]
            left, right = lefts[start], rights[start]
            label = ids[top, left]
            if _agree(ids, label, top, bottom, left, right):
                mask[y, start:end] = label
                counts[label] += end - start
                continue
            corners = (label, ids[top, right], ids[bottom, left], ids[bottom, right])
            for x in range(start, end):
                across = np.float64(weights[x])
                shares = (
                    (1 - down) * (1 - across),
                    (1 - down) * across,
                    down * (1 - across),
                    down * across,
                )
                most = -1.0
                for corner in corners:
                    total = 0.0
                    for other in range(4):
                        if corners[other] == corner:
                            total += shares[other]
                    if total > most or (total == most and corner < mask[y, x]):
                        most = total
                        mask[y, x] = corner
                counts[mask[y, x]] += 1


@numba.njit(nogil=True, cache=True)
def count_rows(mask, counts):
    """Add the pixels of each class in each row of a mask to `counts`, int64 `(height, classes)`."""
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            counts[y, mask[y, x]] += 1


@numba.njit(nogil=True, cache=True)
def fill_confidence(logits, mask, rows, columns, confidence, sums):
    """Fill the confidence map of a mask from `fill_mask`, and add to the sums of each class."""
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
    """Interpolate logits across one row of a cell: `base + slope * weight` for each class."""
    for c in range(logits.shape[2]):
        a = logits[top, left, c]
        b = logits[top, right, c]
        a += (logits[bottom, left, c] - a) * row_weight
        b += (logits[bottom, right, c] - b) * row_weight
        base[c] = a
        slope[c] = b - a


@numba.njit(nogil=True, cache=True)
def _sum_exponentials(base, slope, label, weights, totals):
    """Sum `exp(logit - logit of label)` over the classes, for pixels of one row of a cell.

    The terms of a class start at the pixel where they are largest, so nothing can overflow.
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
