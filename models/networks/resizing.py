"""Bilinear upsampling inside a network, for inputs whose size is known only at run time."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class BilinearUpSampling2D(keras.layers.UpSampling2D):
    """`UpSampling2D(size, interpolation="bilinear")` that can be traced with open height and width.

    Keras compares the new size with 0 in Python, which TensorFlow forbids for a traced tensor: one
    graph for all input sizes, as engines and exports want it, would not be possible.
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
