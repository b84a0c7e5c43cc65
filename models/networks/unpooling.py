"""Max pooling that returns its indices, and the matching unpooling, for inputs of any size."""

import keras
import numpy as np
from keras import ops


class MaxPoolWithIndices(keras.layers.Layer):
    """2x2 max pooling that also returns the index of the maximum.

    float32 (N, H, W, C) -> the maxima (N, ceil(H / 2), ceil(W / 2), C) and their indices, int32 of
    the same shape: 0 top left, 1 top right, 2 bottom left, 3 bottom right; the first of equal
    values. With an odd height or width, the last row or column is pooled alone.
    """

    def call(self, x):
        _, height, width, channels = ops.shape(x)
        x = ops.pad(x, [[0, 0], [0, height % 2], [0, width % 2], [0, 0]], constant_values=-np.inf)
        rows, columns = (height + 1) // 2, (width + 1) // 2
        x = ops.reshape(x, (-1, rows, 2, columns, 2, channels))
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, rows, columns, 4, channels))
        maxima = ops.max(x, axis=3)
        is_largest = ops.cast(x == ops.expand_dims(maxima, 3), "int32")
        return maxima, ops.argmax(is_largest, axis=3)

    def compute_output_spec(self, x):
        shape = (x.shape[0], *(None if n is None else -(-n // 2) for n in x.shape[1:3]), x.shape[3])
        return keras.KerasTensor(shape, x.dtype), keras.KerasTensor(shape, "int32")


class MaxUnpool(keras.layers.Layer):
    """Reverses `MaxPoolWithIndices`: puts each value at its maximum's position; the rest is 0.

    Inputs: values (N, h, w, C), indices of the same shape, and a tensor (N, H, W, C) that gives
    the result's height and width, with h = ceil(H / 2) and w = ceil(W / 2).
    """

    def call(self, values, indices, like):
        _, rows, columns, channels = ops.shape(values)
        places = ops.arange(4, dtype=indices.dtype)[:, None]
        chosen = ops.cast(ops.expand_dims(indices, 3) == places, values.dtype)
        x = ops.reshape(ops.expand_dims(values, 3) * chosen, (-1, rows, columns, 2, 2, channels))
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 2 * rows, 2 * columns, channels))
        return x[:, : ops.shape(like)[1], : ops.shape(like)[2]]

    def compute_output_spec(self, values, indices, like):
        return keras.KerasTensor((*like.shape[:3], values.shape[3]), values.dtype)
