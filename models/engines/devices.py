"""The cores and the GPU that this process can use, and what happens without a GPU."""

import ctypes
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from models.engines.options import EngineError, GpuPolicy, Precision

logger = logging.getLogger(__name__)

MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Has the bytes that a container may use, on Linux."""

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
"""Exists if the NVIDIA driver is loaded."""

TENSOR_CORES_SINCE = (7, 0)
"""Lowest compute capability with which a GPU is faster in half precision, according to TensorFlow's
guide to mixed precision (https://www.tensorflow.org/guide/mixed_precision)."""

CUDA_DRIVERS = ("libcuda.so.1", "nvcuda.dll")
"""The driver libraries by which TensorFlow finds GPUs, on Linux and on Windows."""

TENSORFLOW = "tensorflow"
"""Name of a Keras backend."""

FLOAT32, MIXED_FLOAT16, MIXED_BFLOAT16 = "float32", "mixed_float16", "mixed_bfloat16"
"""Keras dtype policies."""

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
    return os.environ.get("KERAS_BACKEND", TENSORFLOW)


def import_tensorflow() -> None:
    """Import TensorFlow; discard what its native code prints to standard error meanwhile.

    Only if `TF_CPP_MIN_LOG_LEVEL` asks for silence: the notices come before TensorFlow reads it.
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


def find_gpu(policy: GpuPolicy) -> str | None:
    """Return TensorFlow's name of the GPU to use, and let its memory grow on demand.

    Without a GPU, return None and warn or raise, depending on `policy`.

    Raises:
        EngineError: a GPU is required, and TensorFlow finds none.
    """
    if policy is GpuPolicy.IF_PRESENT and not cuda_has_devices():
        return None
    import_tensorflow()
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        if policy is not GpuPolicy.IF_PRESENT:
            do_without_gpu(policy is GpuPolicy.REQUIRED, _what_is_seen())
        return None
    if len(gpus) > 1:
        logger.warning(
            "Found %d GPUs, of which only the first is used: give each worker one", len(gpus)
        )
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError as error:  # The GPU is in use in this process already.
            logger.info("%s: memory growth cannot be set: %s", gpu.name, error)
    return "/device:GPU:0"


def do_without_gpu(required: bool, reason: str) -> None:
    """Log a warning that no GPU is used, with the reason and what to check.

    Raises:
        EngineError: a GPU is required; the message is the same.
    """
    said = (
        f"{reason}. Check that the worker has an accelerator, that its driver is installed "
        "(nvidia-smi shows both), and that the image holds CUDA's libraries "
        "(pip install 'tensorflow[and-cuda]')"
    )
    if required:
        raise EngineError(f"a GPU is required: {said}")
    logger.warning("A GPU is wanted, the CPU is used: %s", said)


def keras_choice(precision: Precision, device: str | None = None) -> Precision:
    """Return the precision, one of `POLICIES`, in which Keras computes if another one is asked for.

    `Precision.AUTO` is float16 on a GPU (`device`, as TensorFlow names it) with tensor cores, else
    float32. Masks in float16 are closer to those in float32 than masks in bfloat16;
    `python benchmarks/gpu.py` measures it.

    Raises:
        EngineError: Keras does not compute in that precision.
    """
    if precision is not Precision.AUTO:
        if precision not in POLICIES:
            raise EngineError(
                f"Keras does not compute in {precision.value}: choose the engine openvino, or the "
                f"precision {', '.join(sorted(choice.value for choice in POLICIES))} or auto"
            )
        return precision
    if device is None:
        return Precision.F32
    import tensorflow as tf

    gpu = tf.config.list_physical_devices("GPU")[int(device.rpartition(":")[2])]
    capability = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
    return Precision.F16 if capability >= TENSOR_CORES_SINCE else Precision.F32


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


def device_memory(device: str) -> int:
    """Bytes of a device's memory that TensorFlow may use."""
    # TensorFlow has no public call for this: get_memory_info returns what is used, not the limit.
    from tensorflow.python.client import device_lib

    return next(d.memory_limit for d in device_lib.list_local_devices() if d.name == device)


def _what_is_seen() -> str:
    import tensorflow as tf

    cuda = tf.sysconfig.get_build_info().get("cuda_version")
    driver = f"{NVIDIA_DRIVER} exists" if NVIDIA_DRIVER.exists() else "no NVIDIA driver is loaded"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (
        f"TensorFlow {tf.__version__}, built {f'for CUDA {cuda}' if cuda else 'without CUDA'}, "
        f"finds no GPU; {driver}"
        + ("" if hidden is None else f"; CUDA_VISIBLE_DEVICES is {hidden!r}")
    )


def cuda_has_devices() -> bool:
    """Whether NVIDIA's driver reports a GPU; far quicker than to import TensorFlow."""
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
