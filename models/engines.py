"""Engines: a model package made ready to run on this machine."""

import os
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from models.packages import ModelPackage


class Engine(Protocol):
    """What a pipeline needs of a network."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Map uint8 RGB photos `(N, h, w, 3)` to float32 logits `(N, h / s, w / s, classes)`."""


class TensorFlowEngine:
    """A frozen TensorFlow graph that takes uint8 photos; normalisation is part of the graph.

    Freezing turns the variables into constants and lets Grappler fold batch normalisation into the
    convolutions. One trace serves every shape: batch, height and width are left open. XLA is not
    used: on a CPU it is an order of magnitude slower than the plain graph.

    Args:
        package: the model to run. Its weights are read here.

    Raises:
        PackageError: the weights do not fit the package's description.
    """

    def __init__(self, package: "ModelPackage"):
        import tensorflow as tf
        from tensorflow.python.framework.convert_to_constants import (
            convert_variables_to_constants_v2,
        )

        network = package.build_network()
        mean = tf.constant(package.mean, tf.float32) * 255
        std = tf.constant(package.std, tf.float32) * 255

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
        def logits(images: tf.Tensor) -> tf.Tensor:
            normalised = (tf.cast(images, tf.float32) - mean) / std
            return tf.cast(network(normalised, training=False), tf.float32)

        self._frozen = convert_variables_to_constants_v2(logits.get_concrete_function())
        self._constant = tf.constant

    def predict(self, images: np.ndarray) -> np.ndarray:
        """See `Engine.predict`."""
        return self._frozen(self._constant(images))[0].numpy()


def load_engine(package: "ModelPackage") -> Engine:
    """The engine for `package` on this machine.

    Raises:
        PackageError: the weights do not fit the package's description.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return TensorFlowEngine(package)
