"""Upsampling and cropping layers for inputs whose size is known only at run time."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class BilinearUpSampling2D(keras.layers.UpSampling2D):
    """`UpSampling2D(size, interpolation="bilinear")` for inputs of unknown size.

    Keras compares the new size with 0 in Python, which TensorFlow rejects for a traced tensor.
    Without this layer, engines could not trace one graph for all input sizes.
    """

    def __init__(self, size: int = 2, **kwargs: Any):
        super().__init__(size, data_format="channels_last", interpolation="bilinear", **kwargs)

    def call(self, inputs):
        if keras.backend.backend() != "tensorflow":
            return super().call(inputs)
        import tensorflow as tf

        _, height, width, _ = ops.shape(inputs)
        size = (height * self.size[0], width * self.size[1])
        return tf.cast(tf.image.resize(inputs, size), inputs.dtype)


class CropLike(keras.layers.Layer):
    """Crops the first input (N, H, W, C) to the height and width of the second one.

    Args:
        centered: crop the centre, to match unpadded convolutions; else the top left part, to match
            poolings that pad at the bottom and the right.
    """

    def __init__(self, centered: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.centered = centered

    def call(self, x, like):
        _, height, width, _ = ops.shape(x)
        _, rows, columns, _ = ops.shape(like)
        top, left = ((height - rows) // 2, (width - columns) // 2) if self.centered else (0, 0)
        return x[:, top : top + rows, left : left + columns]

    def compute_output_spec(self, x, like):
        return keras.KerasTensor((*like.shape[:3], x.shape[3]), x.dtype)
