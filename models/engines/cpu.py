"""TensorFlow on a CPU."""

import threading
from collections.abc import Callable

import numpy as np

from models.engines.batches import CPU_BATCH_SIZE, BatchedEngine
from models.packages import ModelPackage


class CpuEngine(BatchedEngine):
    """Frozen TensorFlow graphs that take uint8 photos; normalisation is part of the graph.

    Freezing turns the variables into constants, so that batch normalisation folds into the
    convolutions. There is one graph per input shape, made when the shape is first seen: pipelines
    keep to a few shapes. XLA is not used: on a CPU it is an order of magnitude slower here.

    Args:
        package: the model to run. Its weights are read here.
        batch_size: photos in a batch; None: 4.

    Raises:
        PackageError: the weights do not fit the package's description.
    """

    def __init__(self, package: ModelPackage, batch_size: int | None = None):
        self._network = package.build_network()
        self._mean = np.asarray(package.mean, np.float32) * 255
        self._std = np.asarray(package.std, np.float32) * 255
        super().__init__(batch_size or CPU_BATCH_SIZE)
        self._graphs: dict[tuple[int, ...], Callable] = {}
        self._lock = threading.Lock()

    def _predict(self, images: np.ndarray) -> np.ndarray:
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
