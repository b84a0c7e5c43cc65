"""TensorFlow on a CPU."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from models.engines import devices
from models.engines.batches import CPU_BATCH_SIZE, BatchedEngine
from models.engines.options import AUTOMATIC, EngineOptions
from models.packages import ModelPackage

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class CpuEngine(BatchedEngine):
    """Frozen TensorFlow graphs that take uint8 photos; normalisation is part of the graph.

    There is one graph per input shape, made when the shape is first seen: pipelines keep to a few
    shapes.

    Args:
        package: the model to run. Its weights are read here.
        options: precision, batch size and threads.

    Raises:
        PackageError: the weights do not fit the package's description.
    """

    def __init__(self, package: ModelPackage, options: EngineOptions = AUTOMATIC):
        super().__init__(options.batch_size or CPU_BATCH_SIZE, options.threads or devices.cores())
        self._package = package
        with devices.keras_precision(devices.dtype_policy(options.precision)):
            self._network = package.build_network()
        self._graphs: dict[tuple[int, ...], Callable] = {}
        self._lock = threading.Lock()

    def _predict(self, images: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        with self._lock:
            graph = self._graphs.get(images.shape)
            if graph is None:
                graph = self._graphs[images.shape] = freeze(
                    self._network, self._package, images.shape
                )
        return graph(tf.constant(images))[0].numpy()


def freeze(
    network: "keras.Model", package: ModelPackage, shape: tuple[int | None, ...]
) -> "tf.types.experimental.ConcreteFunction":
    """A TensorFlow graph from uint8 photos `(N, h, w, 3)` to float32 logits, without variables.

    Normalisation is part of it. As the weights are constants, batch normalisation folds into the
    convolutions. XLA is not used: on a CPU it is an order of magnitude slower here.

    Args:
        network: the package's network.
        package: whose mean and standard deviation photos are normalised with.
        shape: of the photos; None where it is left open.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    mean = np.asarray(package.mean, np.float32) * 255
    std = np.asarray(package.std, np.float32) * 255

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)], autograph=False)
    def logits(images: tf.Tensor) -> tf.Tensor:
        normalised = (tf.cast(images, tf.float32) - mean) / std
        return tf.cast(network(normalised, training=False), tf.float32)

    return convert_variables_to_constants_v2(logits.get_concrete_function())
