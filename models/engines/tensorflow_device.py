"""TensorFlow's devices: finding a GPU, and compiling for one by XLA."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from models.engines import devices

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger(__name__)

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
"""Exists if the NVIDIA driver is loaded."""

NO_MEMORY = frozenset({"Placeholder", "ReadVariableOp"})
"""Operations whose results are not memory of their own."""


class TensorFlowDevice:
    """See `device_engine.Device`.

    Args:
        name: TensorFlow's name of the device.
        jit_compile: whether to compile by XLA; for a GPU, not for a CPU.
    """

    def __init__(self, name: str, jit_compile: bool = True):
        self.name = name
        self._jit_compile = jit_compile

    @property
    def memory(self) -> int:
        """Bytes that TensorFlow may use."""
        # TensorFlow has no public call for this: get_memory_info returns what is used.
        from tensorflow.python.client import device_lib

        found = device_lib.list_local_devices()
        return next(device.memory_limit for device in found if device.name == self.name)

    def compile(self, function: Callable, *specs) -> "tf.types.experimental.ConcreteFunction":
        """See `Device.compile`."""
        import keras
        import tensorflow as tf

        program = tf.function(function, jit_compile=self._jit_compile, autograph=False)
        with tf.device(self.name):
            return program.get_concrete_function(
                *keras.tree.map_structure(lambda spec: tf.TensorSpec(spec.shape, spec.dtype), specs)
            )

    def result_bytes(self, function: Callable, *specs) -> int:
        """See `Device.result_bytes`."""
        tensors = (
            tensor
            for operation in self.compile(function, *specs).graph.get_operations()
            if operation.type not in NO_MEMORY
            for tensor in operation.outputs
        )
        return sum(tensor.dtype.size * (tensor.shape.num_elements() or 0) for tensor in tensors)


def find_gpu() -> TensorFlowDevice | None:
    """Return the GPU that TensorFlow uses, and let its memory grow on demand; None without one."""
    devices.import_tensorflow()
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return None
    devices.warn_of_idle_gpus(len(gpus))
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError as error:  # The GPU is in use in this process already.
            logger.info("%s: memory growth cannot be set: %s", gpu.name, error)
    return TensorFlowDevice("/device:GPU:0")


def capability() -> tuple[int, int]:
    """The compute capability of the first GPU; (0, 0) if it has none."""
    import tensorflow as tf

    gpu = tf.config.list_physical_devices("GPU")[0]
    return tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))


def what_is_seen() -> str:
    """Say in a sentence why TensorFlow finds no GPU."""
    import tensorflow as tf

    cuda = tf.sysconfig.get_build_info().get("cuda_version")
    driver = f"{NVIDIA_DRIVER} exists" if NVIDIA_DRIVER.exists() else "no NVIDIA driver is loaded"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (
        f"TensorFlow {tf.__version__}, built {f'for CUDA {cuda}' if cuda else 'without CUDA'}, "
        f"finds no GPU; {driver}"
        + ("" if hidden is None else f"; CUDA_VISIBLE_DEVICES is {hidden!r}")
    )
