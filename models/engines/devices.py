"""The cores and the GPU that this process can use, and what happens without a GPU."""

import ctypes
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from models.engines.options import EngineError, Precision

logger = logging.getLogger(__name__)

MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Has the bytes that a container may use, on Linux."""

TENSOR_CORES_SINCE = (7, 0)
"""Lowest compute capability with which a GPU is faster in half precision, according to TensorFlow's
guide to mixed precision (https://www.tensorflow.org/guide/mixed_precision)."""

CUDA_DRIVERS = ("libcuda.so.1", "nvcuda.dll")
"""The driver libraries by which frameworks find GPUs, on Linux and on Windows."""

TENSORFLOW, JAX = "tensorflow", "jax"
"""Names of the backends of Keras that engines run on."""

KERAS_BACKEND = "KERAS_BACKEND"
"""Environment variable: the backend of Keras."""

FLOAT32, MIXED_FLOAT16, MIXED_BFLOAT16 = "float32", "mixed_float16", "mixed_bfloat16"
"""Keras dtype policies."""

_SILENCE = threading.Lock()
"""Held while standard error leads nowhere: two threads would restore each other's."""

POLICIES = {
    Precision.F32: FLOAT32, Precision.F16: MIXED_FLOAT16, Precision.BF16: MIXED_BFLOAT16
}  # fmt: skip
"""The Keras dtype policy of each precision that Keras computes in."""


def cores() -> int:
    """Number of cores that this process may use, by CPU affinity and container limits."""
    from loky import cpu_count

    return cpu_count()


def physical_cores() -> int:
    """The same without the second thread of a core."""
    from loky import cpu_count

    return cpu_count(only_physical_cores=True)


def memory() -> int:
    """Bytes of memory that this process may use, by the machine and the container's limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError, ValueError):  # No cgroup, or one without a limit, which says "max".
        limits.append(int(MEMORY_LIMIT.read_text()))
    return min(limits)


def keras_backend() -> str:
    """The backend of Keras in this process: the loaded one, else the configured one."""
    if "keras" in sys.modules:
        import keras

        return keras.backend.backend()
    return os.environ.get(KERAS_BACKEND, TENSORFLOW)


def import_tensorflow() -> None:
    """Import TensorFlow, without Keras, so that the backend of Keras can still be chosen.

    If `TF_CPP_MIN_LOG_LEVEL` asks for silence, discard what its native code prints to standard
    error meanwhile: these notices come before TensorFlow reads the variable.

    Raises:
        EngineError: it cannot be imported.
    """
    silent = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") != "0"
    with native_silence() if silent else nullcontext(), _keras_left_out():
        try:
            import tensorflow  # noqa: F401
        except ImportError as error:
            raise EngineError(
                f"TensorFlow cannot be imported ({error}): pip install tensorflow, or use JAX "
                f"(--engine jax, or {KERAS_BACKEND}={JAX})"
            ) from error


def import_backend() -> None:
    """Import what Keras runs on in this process.

    Raises:
        EngineError: it is TensorFlow, which cannot be imported.
    """
    if keras_backend() == TENSORFLOW:
        import_tensorflow()
    import keras  # noqa: F401


@contextmanager
def native_silence() -> Iterator[None]:
    """As a context, discard what native code prints to standard error; one thread at a time."""
    with _SILENCE:
        saved = os.dup(2)
        try:
            with open(os.devnull, "wb") as sink:
                os.dup2(sink.fileno(), 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


@contextmanager
def _keras_left_out() -> Iterator[None]:
    """Let imports of Keras fail, if it is not loaded: TensorFlow does without it."""
    if "keras" in sys.modules:
        yield
        return
    sys.modules["keras"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["keras"]


def keras_choice(precision: Precision, capability: tuple[int, int] = (0, 0)) -> Precision:
    """Return the precision, one of `POLICIES`, in which Keras computes if another one is asked for.

    `Precision.AUTO` is float16 on a GPU with tensor cores, by its compute capability, else float32.
    Masks in float16 are closer to those in float32 than masks in bfloat16;
    `python benchmarks/gpu_check.py` measures it.

    Raises:
        EngineError: Keras does not compute in that precision.
    """
    if precision is Precision.AUTO:
        return Precision.F16 if capability >= TENSOR_CORES_SINCE else Precision.F32
    if precision not in POLICIES:
        raise EngineError(
            f"Keras does not compute in {precision.value}: choose the engine openvino, or the "
            f"precision {', '.join(sorted(choice.value for choice in POLICIES))} or auto"
        )
    return precision


@contextmanager
def keras_precision(policy: str) -> Iterator[None]:
    """Set the Keras dtype policy with which networks are built inside the context."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def warn_of_idle_gpus(found: int) -> None:
    """Log a warning if there are more GPUs than the one that an engine uses."""
    if found > 1:
        logger.warning(
            "Found %d GPUs, of which only the first is used: give each worker one", found
        )


def cuda_has_devices() -> bool:
    """Whether NVIDIA's driver reports a GPU; far quicker than to import a framework."""
    for name in CUDA_DRIVERS:
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        count = ctypes.c_int(0)
        return (
            driver.cuInit(0) == 0
            and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
            and count.value > 0
        )
    return False
