"""Keras on backends other than TensorFlow, such as JAX."""

import threading

import numpy as np

from models.engines import devices
from models.engines.batches import BatchedEngine
from models.engines.options import AUTOMATIC, EngineOptions, GpuPolicy
from models.inputs import normalise
from models.packages import ModelPackage

BATCH_SIZE = 4
"""Photos in a batch by default."""


class KerasEngine(BatchedEngine):
    """Runs the network by Keras, on the device that its backend chooses.

    Args:
        package: the model to run. Its weights are read here.
        options: precision, batch size, and what to do without a GPU.

    Raises:
        PackageError: the weights do not fit the package's description.
        EngineError: a GPU is required, and the backend finds none.
    """

    def __init__(self, package: ModelPackage, options: EngineOptions = AUTOMATIC):
        import keras

        if options.gpu is not GpuPolicy.IF_PRESENT:
            found = keras.distribution.list_devices()
            if not any(device.startswith("gpu") for device in found):
                reason = f"Keras on {keras.backend.backend()} finds {', '.join(found)}"
                devices.do_without_gpu(options.gpu is GpuPolicy.REQUIRED, reason)
        self._package = package
        precision = devices.keras_choice(options.precision)
        with devices.keras_precision(devices.POLICIES[precision]):
            self._network = package.build_network()
        super().__init__(options.batch_size or BATCH_SIZE, 1, precision)
        self._lock = threading.Lock()

    def _predict(self, images: np.ndarray) -> np.ndarray:
        pixels = normalise(images, self._package.mean, self._package.std)
        with self._lock:  # Keras passes its weights to the backend and back in each call.
            return np.asarray(self._network.predict_on_batch(pixels), np.float32)
