"""TensorFlow on a CPU."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from models.engines import devices
from models.engines.batches import CPU_BATCH_SIZE, BatchedEngine
from models.engines.options import AUTOMATIC, EngineOptions
from models.packages import ModelPackage

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class TensorFlowEngine(BatchedEngine):
    """Runs a frozen TensorFlow graph per input shape, traced when the shape is first seen.

    The graphs take uint8 photos; normalisation is part of them.

    Args:
        package: the model to run. Its weights are read here.
        options: precision, batch size and threads.

    Raises:
        PackageError: the weights do not fit the package's description.
    """

    def __init__(self, package: ModelPackage, options: EngineOptions = AUTOMATIC):
        precision = devices.keras_choice(options.precision)
        threads = options.threads or devices.cores()
        super().__init__(options.batch_size or CPU_BATCH_SIZE, threads, precision)
        self._package = package
        with devices.keras_precision(devices.POLICIES[precision]):
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
        return graph(tf.constant(images)).numpy()


def freeze(
    network: "keras.Model", package: ModelPackage, shape: tuple[int | None, ...]
) -> "tf.types.experimental.ConcreteFunction":
    """Trace a network as a TensorFlow graph whose weights are constants.

    Constant weights let TensorFlow fold batch normalisation into the convolutions. XLA is not used:
    on a CPU it is an order of magnitude slower here.

    Args:
        network: the package's network.
        package: gives the mean and standard deviation of the normalisation.
        shape: of the photos; None for a size that is left open.

    Returns:
        A function from uint8 photos `(N, h, w, 3)` to float32 logits.
    """
    import tensorflow as tf

    mean = np.asarray(package.mean, np.float32) * 255
    std = np.asarray(package.std, np.float32) * 255
    apply = with_constants(network)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)], autograph=False)
    def predict(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(apply((tf.cast(images, tf.float32) - mean) / std), tf.float32)

    return predict.get_concrete_function()


def with_constants(network: "keras.Model") -> Callable[["tf.Tensor"], Any]:
    """A function that applies a network for inference; traced, its weights become constants."""
    import tensorflow as tf

    trainable, others = (
        [np.asarray(variable) for variable in variables]
        for variables in (network.trainable_variables, network.non_trainable_variables)
    )

    def apply(inputs: tf.Tensor) -> Any:
        outputs, _ = network.stateless_call(
            [tf.constant(value) for value in trainable],
            [tf.constant(value) for value in others],
            inputs,
            training=False,
        )
        return outputs

    return apply
