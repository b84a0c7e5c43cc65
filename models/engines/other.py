"""Keras' other backends, such as JAX."""

import threading

import numpy as np

from models.engines.batches import CPU_BATCH_SIZE, BatchedEngine
from models.engines.devices import GpuPolicy, do_without_gpu
from models.inputs import normalise
from models.packages import ModelPackage


class KerasEngine(BatchedEngine):
    """The network as Keras runs it, on the device that its backend chooses.

    Args:
        package: the model to run. Its weights are read here.
        gpu: what to do where the backend has no GPU.
        batch_size: photos in a batch; None: 4.

    Raises:
        PackageError: the weights do not fit the package's description.
        EngineError: a GPU is required, and the backend sees none.
    """

    def __init__(
        self,
        package: ModelPackage,
        gpu: GpuPolicy = GpuPolicy.IF_PRESENT,
        batch_size: int | None = None,
    ):
        import keras

        if gpu is not GpuPolicy.IF_PRESENT:
            seen = keras.distribution.list_devices()
            if not any(device.startswith("gpu") for device in seen):
                reason = f"Keras on {keras.backend.backend()} sees {', '.join(seen)}"
                do_without_gpu(gpu is GpuPolicy.REQUIRED, reason)
        self._package = package
        self._network = package.build_network()
        super().__init__(batch_size or CPU_BATCH_SIZE)
        self._lock = threading.Lock()

    def _predict(self, images: np.ndarray) -> np.ndarray:
        pixels = normalise(images, self._package.mean, self._package.std)
        with self._lock:  # Keras hands its weights to the backend and takes them back.
            return np.asarray(self._network.predict_on_batch(pixels), np.float32)
