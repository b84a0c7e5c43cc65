"""From low-resolution logits to a full-size mask, its class counts and its confidence.

The mask is the argmax of the bilinearly interpolated logits, with the half-pixel centres of
`tf.image.resize` and `cv2.resize`. Interpolating every class at every pixel costs more than a fast
network. But bilinear interpolation is a convex combination: where one class has the largest logit
at all four corners of a cell, it has the largest one at every pixel between them. Only the cells
where corners disagree are interpolated, and there only the classes that can win: not those whose
logits at all corners are below the logits of another class at all corners. So the result is that
of the plain way, ties aside.

The confidence is the softmax probability of the chosen class. Along a row of pixels in one cell a
logit's difference to the chosen one rises evenly, so its exponential is a geometric sequence: two
calls of `exp` serve all pixels of the row, and one multiplication each.
"""

from collections.abc import Iterable

import numpy as np


def load_loops() -> None:
    """Load the compiled loops before they are needed, which takes half a second.

    Raises RuntimeError where Numba finds no folder to keep them in.
    """
    logits_to_mask(np.zeros((2, 2, 2), np.float32), 4, 4)


def logits_to_mask(
    logits: np.ndarray,
    height: int,
    width: int,
    margin: int = 0,
    extent: tuple[float, float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Class ids and class counts at `height` x `width` pixels.

    Args:
        logits: float32 array of shape `(h, w, classes)`, finite, any `h` and `w`.
        height: rows of the mask.
        width: columns of the mask.
        margin: columns of logits on either side that the mask leaves out; see `neighbours`.
        extent: how many rows and columns of logits the mask covers, from the top and from the left
            margin; None: all but the margins.

    Returns:
        The mask, uint8 of shape `(height, width)`, and the pixels of each class, int64 of shape
        `(classes,)`, which add up to `height * width`.
    """
    rows, columns = logits.shape[0], logits.shape[1]
    extent = extent or (rows, columns - 2 * margin)
    return bands_to_mask([logits], (rows, columns), extent, height, width, margin)


def ids_to_mask(
    ids: np.ndarray,
    classes: int,
    height: int,
    width: int,
    margin: int = 0,
    extent: tuple[float, float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What `logits_to_mask` makes of a logit of 1 for each cell's class and 0 for the others.

    Args:
        ids: the class id of each cell, uint8 of shape `(h, w)`.
        classes: number of classes.
        height, width, margin, extent: see `logits_to_mask`.
    """
    from models.interpolation import fill_mask_from_ids

    rows, columns = ids.shape
    extent = extent or (rows, columns - 2 * margin)
    mask = np.empty((height, width), np.uint8)
    counts = np.zeros(classes, np.int64)
    fill_mask_from_ids(
        np.ascontiguousarray(ids),
        neighbours(rows, height, extent[0]),
        neighbours(columns, width, extent[1], margin),
        mask,
        counts,
    )
    return mask, counts


def bands_to_mask(
    bands: Iterable[np.ndarray],
    shape: tuple[int, int],
    extent: tuple[float, float],
    height: int,
    width: int,
    margin: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """What `logits_to_mask` makes of logits that come in bands of rows, bit for bit the same.

    Args:
        bands: float32 arrays of shape `(rows, w, classes)`, finite, any number of rows, from top to
            bottom. Of each only the last row is kept until the next one.
        shape: rows and columns of all bands together.
        extent: how many of these rows and columns the mask covers; it may end within one.
        height: rows of the mask.
        width: columns of the mask.
        margin: columns on either side that the mask leaves out; see `neighbours`.

    Raises:
        ValueError: the bands have fewer rows than the mask needs.
    """
    from models.interpolation import fill_mask

    mask = np.empty((height, width), np.uint8)
    counts = np.zeros(0, np.int64)
    tops, bottoms, weights, bounds = neighbours(shape[0], height, extent[0])
    columns = neighbours(shape[1], width, extent[1], margin)
    logits = np.empty((0, 0, 0), np.float32)
    first = done = 0
    for band in bands:
        logits = np.concatenate([logits, band]) if logits.size else band
        counts = counts if counts.size else np.zeros(logits.shape[2], np.int64)
        ready = int(np.searchsorted(bottoms, first + len(logits)))
        part = slice(done, ready)
        runs = bounds[(bounds >= done) & (bounds <= ready)] - done
        fill_mask(
            np.ascontiguousarray(logits, np.float32),
            (tops[part] - first, bottoms[part] - first, weights[part], runs),
            columns,
            mask[part],
            counts,
        )
        done = ready
        first += len(logits) - 1
        logits = logits[-1:].copy()
    if done < height:
        raise ValueError(f"bands with {first + 1} rows of logits, expected {shape[0]}")
    return mask, counts


def logits_to_confidence(
    logits: np.ndarray,
    mask: np.ndarray,
    margin: int = 0,
    extent: tuple[float, float] | None = None,
    temperature: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """The softmax probability of the class chosen at each pixel, and its sum for each class.

    Args:
        logits: float32 array of shape `(h, w, classes)`, as given to `logits_to_mask`.
        mask: the class ids that `logits_to_mask` chose, uint8 of shape `(height, width)`.
        margin, extent: as given to `logits_to_mask`.
        temperature: what logits are divided by, see `models.calibration`.

    Returns:
        The probability as `round(255 * p)`, uint8 of shape `(height, width)`, and the sums of the
        unrounded probabilities over the pixels of each class, float64 of shape `(classes,)`.
    """
    from models.interpolation import fill_confidence

    height, width = mask.shape
    extent = extent or (logits.shape[0], logits.shape[1] - 2 * margin)
    confidence = np.empty((height, width), np.uint8)
    sums = np.zeros(logits.shape[2], np.float64)
    fill_confidence(
        np.ascontiguousarray(logits / np.float32(temperature), np.float32),
        mask,
        neighbours(logits.shape[0], height, extent[0]),
        neighbours(logits.shape[1], width, extent[1], margin),
        confidence,
        sums,
    )
    return confidence, sums


def logits_at(
    logits: np.ndarray, pixels: np.ndarray, height: int, width: int, extent: tuple[float, float]
) -> np.ndarray:
    """The interpolated logits of some pixels of a mask.

    Args:
        logits: float32 array of shape `(h, w, classes)`.
        pixels: positions in the mask, row after row, int64 of shape `(n,)`.
        height, width, extent: see `logits_to_mask`.

    Returns:
        float32 of shape `(n, classes)`.
    """
    rows, columns = np.divmod(pixels, width)
    tops, bottoms, down, _ = neighbours(logits.shape[0], height, extent[0])
    lefts, rights, across, _ = neighbours(logits.shape[1], width, extent[1])

    def of_column(cells: np.ndarray) -> np.ndarray:
        above, below = logits[tops[rows], cells], logits[bottoms[rows], cells]
        return above + (below - above) * down[rows, None]

    left, right = of_column(lefts[columns]), of_column(rights[columns])
    return left + (right - left) * across[columns, None]


def neighbours(
    source: int, target: int, extent: float | None = None, margin: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What target pixels along one axis are interpolated from.

    Args:
        source: source pixels along the axis.
        target: target pixels.
        extent: how many of the source pixels the targets cover; None: all but the margins.
        margin: source pixels on either side that repeat the other side, as of a panorama that goes
            all around. With any, the axis is a circle: the covered pixels, a whole number of them,
            begin behind the first margin, and the last of them has the first one behind it.

    Returns:
        The source pixels before and after each target pixel, the same one twice at the margins,
        and the weight of the latter; then the bounds of the runs of target pixels that share both:
        a run begins at each of them but the last, which is `target`.
    """
    covered = source - 2 * margin if extent is None else extent
    scale = covered / target
    position = (np.arange(target, dtype=np.float64) + 0.5) * scale - 0.5
    cell = np.floor(position).astype(np.int64)
    weight = (position - cell).astype(np.float32)
    starts = np.flatnonzero(np.diff(cell, prepend=-2))
    bounds = np.append(starts, target)
    if margin:
        before, after = (margin + each % int(covered) for each in (cell, cell + 1))
    else:
        before, after = (np.clip(each, 0, source - 1) for each in (cell, cell + 1))
    return before, after, weight, bounds
