"""Engines: a model package made ready to run on this machine."""

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from models.inputs import normalise

if TYPE_CHECKING:
    from models.packages import ModelPackage


class Engine(Protocol):
    """What a pipeline needs of a network."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Map uint8 RGB photos `(N, h, w, 3)` to float32 logits `(N, h / s, w / s, classes)`."""


class TensorFlowEngine:
    """Frozen TensorFlow graphs that take uint8 photos; normalisation is part of the graph.

    Freezing turns the variables into constants, so that batch normalisation folds into the
    convolutions. There is one graph per input shape, made when the shape is first seen: pipelines
    keep to a few shapes. XLA is not used: on a CPU it is an order of magnitude slower here.

    Args:
        package: the model to run. Its weights are read here.

    Raises:
        PackageError: the weights do not fit the package's description.
    """

    def __init__(self, package: "ModelPackage"):
        self._network = package.build_network()
        self._mean = np.asarray(package.mean, np.float32) * 255
        self._std = np.asarray(package.std, np.float32) * 255
        self._graphs: dict[tuple[int, ...], Callable] = {}
        self._lock = threading.Lock()

    def predict(self, images: np.ndarray) -> np.ndarray:
        """See `Engine.predict`."""
        import tensorflow as tf

        with self._lock:
            graph = self._graphs.get(images.shape)
            if graph is None:
                graph = self._graphs[images.shape] = self._freeze(images.shape)
        return graph(tf.constant(images))[0].numpy()

    def _freeze(self, shape: tuple[int, ...]) -> Callable:
        import tensorflow as tf
        from tensorflow.python.framework.convert_to_constants import (
            convert_variables_to_constants_v2,
        )

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)])
        def logits(images: tf.Tensor) -> tf.Tensor:
            normalised = (tf.cast(images, tf.float32) - self._mean) / self._std
            return tf.cast(self._network(normalised, training=False), tf.float32)

        return convert_variables_to_constants_v2(logits.get_concrete_function())


class KerasEngine:
    """The network as Keras runs it, for Keras' other backends (`KERAS_BACKEND=jax`).

    Args:
        package: the model to run. Its weights are read here.

    Raises:
        PackageError: the weights do not fit the package's description.
    """

    def __init__(self, package: "ModelPackage"):
        self._network = package.build_network()
        self._package = package

    def predict(self, images: np.ndarray) -> np.ndarray:
        """See `Engine.predict`."""
        pixels = normalise(images, self._package.mean, self._package.std)
        return np.asarray(self._network.predict_on_batch(pixels), np.float32)


def load_engine(package: "ModelPackage") -> Engine:
    """The engine for `package` on this machine.

    Raises:
        PackageError: the weights do not fit the package's description.
    """
    import_tensorflow()
    import keras

    if keras.backend.backend() == "tensorflow":
        return TensorFlowEngine(package)
    return KerasEngine(package)


def import_tensorflow() -> None:
    """Import TensorFlow; keep what its native code prints meanwhile out of standard error.

    Only where `TF_CPP_MIN_LOG_LEVEL` asks for silence: the notices come before TensorFlow reads it.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") == "0":
        return
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
        import tensorflow  # noqa: F401
    finally:
        os.dup2(saved, 2)
        os.close(saved)
