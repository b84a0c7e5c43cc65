"""The compiled loop of `models.objects`; a module of its own, as importing Numba takes time."""

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def number_areas(shown):
    """Number the connected areas of an image; pixels that share a side or a corner are connected.

    Args:
        shown: bool of shape `(height, width)`.

    Returns:
        int32 of the same shape: 0 where nothing is shown, else the number of the area. They count
        from 1, in the order of their first pixels, row by row.
    """
    height, width = shown.shape
    areas = np.zeros((height, width), np.int32)
    waiting = np.empty((shown.sum(), 2), np.int64)
    number = 0
    for top in range(height):
        for left in range(width):
            if not shown[top, left] or areas[top, left]:
                continue
            number += 1
            areas[top, left] = number
            waiting[0] = top, left
            todo = 1
            while todo:
                todo -= 1
                row, column = waiting[todo]
                for y in range(max(row - 1, 0), min(row + 2, height)):
                    for x in range(max(column - 1, 0), min(column + 2, width)):
                        if shown[y, x] and not areas[y, x]:
                            areas[y, x] = number
                            waiting[todo] = y, x
                            todo += 1
    return areas
