"""JAX's devices: choosing JAX as the backend of Keras, finding a GPU, and compiling for one."""

import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from models.engines import devices
from models.engines.options import EngineError

if TYPE_CHECKING:
    import jax

PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"
"""Environment variable: whether JAX takes most of a GPU's memory when it starts."""

MEMORY = 256 << 20
"""Bytes to use where JAX does not say how many it may, as on a CPU; TensorFlow takes the same."""


class JaxDevice:
    """See `device_engine.Device`.

    Args:
        name: one of JAX's devices.
    """

    def __init__(self, name: "jax.Device"):
        self.name = name

    @property
    def memory(self) -> int:
        """Bytes that JAX may use."""
        return (self.name.memory_stats() or {}).get("bytes_limit", MEMORY)

    @property
    def is_cpu(self) -> bool:
        """Whether it is a CPU."""
        return self.name.platform == "cpu"

    @property
    def capability(self) -> tuple[int, int]:
        """The compute capability of a GPU of NVIDIA; (0, 0) of other devices."""
        stated = str(getattr(self.name, "compute_capability", ""))
        found = re.fullmatch(r"(\d+)\.(\d+)", stated)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def compile(self, function: Callable, *specs) -> Callable:
        """See `Device.compile`."""
        import jax

        return jax.jit(function).lower(*self._shapes(specs)).compile()

    def result_bytes(self, function: Callable, *specs) -> int:
        """See `Device.result_bytes`."""
        import jax

        program = jax.make_jaxpr(function)(*self._shapes(specs))
        results = (result.aval for step in program.eqns for result in step.outvars)
        return sum(result.size * result.dtype.itemsize for result in results)

    def _shapes(self, specs):
        import jax
        import keras

        place = jax.sharding.SingleDeviceSharding(self.name)
        return keras.tree.map_structure(
            lambda spec: jax.ShapeDtypeStruct(spec.shape, spec.dtype, sharding=place), specs
        )


def default_device() -> JaxDevice:
    """Return the device that JAX selects: a GPU if it sees one.

    Raises:
        EngineError: JAX cannot be imported, or not run on the selected platform.
    """
    os.environ.setdefault(PREALLOCATE, "false")  # As it shares the GPU with others.
    try:
        import jax

        found = jax.local_devices()
    except ImportError as error:
        raise EngineError(
            f"JAX cannot be imported ({error}): pip install jax, or choose another engine"
        ) from error
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise EngineError(f"JAX does not run here: {reason}") from error
    device = JaxDevice(found[0])
    if not device.is_cpu:
        devices.warn_of_idle_gpus(len(found))
    return device


def cpu() -> JaxDevice:
    """Return JAX's device for the CPU."""
    import jax

    return JaxDevice(jax.local_devices(backend="cpu")[0])


def choose_backend() -> None:
    """Select JAX as the backend of Keras in this process.

    Raises:
        EngineError: Keras runs on another backend already.
    """
    if "keras" not in sys.modules:
        os.environ[devices.KERAS_BACKEND] = devices.JAX
    if devices.keras_backend() != devices.JAX:
        raise EngineError(
            f"Keras already runs on {devices.keras_backend()} in this process: set "
            f"{devices.KERAS_BACKEND}={devices.JAX} before the program starts"
        )
