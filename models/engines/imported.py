"""Which library runs an imported network."""

import logging
from typing import TYPE_CHECKING

from models import tflite
from models.engines import devices
from models.engines.options import EngineError, EngineName, EngineOptions, GpuPolicy, Precision
from models.graphs import Format
from models.packages import ModelPackage

if TYPE_CHECKING:
    from models.engines import Engine

logger = logging.getLogger(__name__)

ENGINES = {
    Format.OPENVINO: (EngineName.OPENVINO,),
    Format.ONNX: (EngineName.OPENVINO, EngineName.ONNXRUNTIME),
    Format.TFLITE: (EngineName.OPENVINO, EngineName.LITERT),
}
"""What runs each format on a CPU; the second one where the first one cannot. See `_in_order`."""


def check_engine(package: ModelPackage, name: EngineName) -> None:
    """Raise EngineError if an engine does not run networks such as that of a package."""
    if not package.graph:
        if name in (EngineName.ONNXRUNTIME, EngineName.LITERT):
            raise EngineError(
                f"{name.value} runs imported networks, and {package.name} was trained here: choose "
                "another engine"
            )
    elif name not in (EngineName.AUTO, *ENGINES[package.graph.format]):
        choices = " or ".join(choice.value for choice in ENGINES[package.graph.format])
        raise EngineError(
            f"{package.name} is an imported {package.graph.format.value} network, which "
            f"{name.value} does not run: choose the engine auto or {choices}"
        )


def load(package: ModelPackage, options: EngineOptions) -> "Engine":
    """Return an engine for an imported network.

    On a GPU, ONNX Runtime runs ONNX networks. On a CPU, OpenVINO runs all formats, and what it
    cannot run, or LiteRT runs faster, is left to ONNX Runtime and LiteRT.

    Raises:
        EngineError: no engine that runs its format, or not the one that was asked for, can run it
            here; or a GPU is required, and none can be used.
        PackageError: a file of the network was changed.
    """
    if _is_for_gpu(package, options):
        from models.engines import onnx_runtime

        if gpu := onnx_runtime.on_gpu(package, options):
            return gpu
    choices = ENGINES[package.imported.format]
    automatic = options.name is EngineName.AUTO
    first, *others = _in_order(choices, package) if automatic else [options.name]
    try:
        return _on_cpu(first, package, options)
    except EngineError as error:
        if not others:
            raise
        (other,) = others
        try:
            engine = _on_cpu(other, package, options)
        except EngineError as another:
            raise EngineError(f"{str(error).rstrip('.')}; {another}") from another
        logger.debug("%s is used instead of %s: %s", other.value, first.value, error)
        return engine


def _in_order(choices: tuple[EngineName, ...], package: ModelPackage) -> tuple[EngineName, ...]:
    """Engines on a CPU, in the order in which they are tried.

    OpenVINO computes most of a network with weights in uint8 in single precision, and LiteRT in
    integers, which is faster.
    """
    if package.imported.format is Format.TFLITE:
        (content,) = package.read_graph()
        if tflite.parse(content).has_uint8_weights:
            return choices[::-1]
    return choices


def _is_for_gpu(package: ModelPackage, options: EngineOptions) -> bool:
    """Whether a GPU is to be tried; warns or raises EngineError if none can run the network."""
    if options.gpu is GpuPolicy.IF_PRESENT and not devices.cuda_has_devices():
        return False
    if package.imported.format is Format.ONNX and options.name is not EngineName.OPENVINO:
        return True
    message = (
        f"{package.name} is an imported {package.imported.format.value} network, which runs on "
        "CPUs only here: import it as ONNX for GPUs"
    )
    if options.gpu is GpuPolicy.REQUIRED:
        raise EngineError(f"a GPU is required: {message}")
    if options.gpu is GpuPolicy.WANTED:
        logger.warning("No GPU is used: %s", message)
    return False


def _on_cpu(name: EngineName, package: ModelPackage, options: EngineOptions) -> "Engine":
    if name is EngineName.LITERT:
        from models.engines import litert

        return litert.load(package, options)
    if name is EngineName.ONNXRUNTIME:
        from models.engines import onnx_runtime

        return onnx_runtime.load(package, options)
    from models.engines import choosing, openvino

    return openvino.load(package, choosing.settled(package, options))


def precision_of(package: ModelPackage, options: EngineOptions) -> Precision:
    """The precision of a network that is run as it is, by a library that does not change it.

    Raises:
        EngineError: another one is asked for.
    """
    own = Precision(package.imported.precision)
    if options.precision not in (Precision.AUTO, own):
        raise EngineError(
            f"{package.name} computes in {own.value}, not in {options.precision.value}: choose the "
            f"precision auto or {own.value}"
        )
    return own
