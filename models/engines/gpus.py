"""Which framework runs a network on a GPU, and what happens if none does."""

import logging
import sys
from importlib.util import find_spec

from models.engines import devices, jax_device, tensorflow_device
from models.engines.batches import CPU_BATCH_SIZE
from models.engines.device_engine import Device, DeviceEngine, DeviceMaskEngine
from models.engines.options import EngineError, EngineName, EngineOptions, GpuPolicy, Precision
from models.packages import ModelPackage

logger = logging.getLogger(__name__)


def on_gpu(package: ModelPackage, options: EngineOptions) -> DeviceEngine | None:
    """Return an engine on a GPU, warmed up: in TensorFlow, or if it sees none and may, in JAX.

    Without a GPU, return None and warn or raise, depending on the policy.

    Raises:
        EngineError: a GPU is required, and there is none or it cannot run the network.
        PackageError: the weights do not fit the package's description.
    """
    if options.gpu is GpuPolicy.IF_PRESENT and not devices.cuda_has_devices():
        return None
    seen = []
    if options.name is EngineName.TENSORFLOW or find_spec(devices.TENSORFLOW):
        device = tensorflow_device.find_gpu()
        if device:
            return _on_tensorflow(package, options, device)
        seen.append(tensorflow_device.what_is_seen())
    else:
        seen.append("TensorFlow is not installed")
    if options.name is EngineName.AUTO and _jax_may_be_chosen():
        try:
            if not jax_device.default_device().is_cpu:
                return on_jax(package, options)
            seen.append("JAX finds none either")
        except EngineError as error:
            seen.append(str(error))
    if options.gpu is not GpuPolicy.IF_PRESENT:
        _do_without_gpu(options, "; ".join(seen))
    return None


def on_jax(package: ModelPackage, options: EngineOptions) -> DeviceEngine:
    """Return an engine on the device that JAX selects; on a GPU it makes masks and is warmed up.

    Raises:
        EngineError: JAX is not available in this process, or a GPU is required and there is none or
            it cannot run the network.
        PackageError: the weights do not fit the package's description.
    """
    device = jax_device.default_device()
    jax_device.choose_backend()
    import jax

    if options.precision is Precision.F32:
        jax.config.update("jax_default_matmul_precision", "highest")
    if not device.is_cpu:
        precision = precision_on(package, options, device.capability)
        try:
            return _ready(package, options, device, precision)
        except (jax.errors.JaxRuntimeError, EngineError) as error:
            _do_without_gpu(options, _cannot_run(error))
            device = jax_device.cpu()
    elif options.gpu is not GpuPolicy.IF_PRESENT:
        _do_without_gpu(options, f"JAX {jax.__version__} finds {device.name}")
    precision = devices.keras_choice(options.precision)
    return DeviceEngine(package, device, precision, options.batch_size or CPU_BATCH_SIZE)


def _on_tensorflow(
    package: ModelPackage, options: EngineOptions, device: tensorflow_device.TensorFlowDevice
) -> DeviceEngine | None:
    import tensorflow as tf

    if options.precision is Precision.F32:
        tf.config.experimental.enable_tensor_float_32_execution(False)
    precision = precision_on(package, options, tensorflow_device.capability())
    try:
        return _ready(package, options, device, precision)
    except (tf.errors.OpError, EngineError) as error:
        _do_without_gpu(options, _cannot_run(error))
        return None


def precision_on(
    package: ModelPackage, options: EngineOptions, capability: tuple[int, int]
) -> Precision:
    """The precision on a GPU; automatic ones are those whose loss is known.

    float16 has three bits more than bfloat16, and what overflows is computed again: it loses no
    more than bfloat16, so either loss will do.
    """
    chosen = devices.keras_choice(options.precision, capability)
    if chosen is options.precision or chosen is Precision.F32:
        return chosen
    losses = [package.loss(precision.value) for precision in (Precision.F16, Precision.BF16)]
    if losses == [None, None]:
        logger.info(
            "%s: float32, as it is not known what half precision loses: `citymask quantise` "
            "measures it on a processor with bfloat16; --precision f16 takes it all the same",
            package.name,
        )
        return Precision.F32
    return chosen


def _ready(
    package: ModelPackage, options: EngineOptions, device: Device, precision: Precision
) -> DeviceMaskEngine:
    engine = DeviceMaskEngine(package, device, precision, options.batch_size)
    engine.warm_up()
    return engine


def _jax_may_be_chosen() -> bool:
    """Whether JAX is installed, and the backend of Keras is not settled."""
    return bool(find_spec(devices.JAX)) and "keras" not in sys.modules


def _cannot_run(error: Exception) -> str:
    return f"the GPU cannot run the network: {str(error).splitlines()[0]}"


def _do_without_gpu(options: EngineOptions, reason: str) -> None:
    """Log a warning that no GPU is used, with the reason and what to check.

    Raises:
        EngineError: a GPU is required; the message is the same.
    """
    said = (
        f"{reason}. Check that the worker has an accelerator, that its driver is installed "
        "(nvidia-smi shows both), and that the image holds CUDA's libraries "
        "(pip install 'tensorflow[and-cuda]' or 'jax[cuda12]')"
    )
    if options.gpu is GpuPolicy.REQUIRED:
        raise EngineError(f"a GPU is required: {said}")
    logger.warning("A GPU is wanted, the CPU is used: %s", said)
