"""Engines: they run the network of a model package on this machine."""

import logging
import os
import sys
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from models.engines import devices
from models.engines.devices import import_tensorflow
from models.engines.options import (
    AUTOMATIC,
    EngineError,
    EngineName,
    EngineOptions,
    GpuPolicy,
    Precision,
)
from models.engines.tiles import Mask

if TYPE_CHECKING:
    from models.engines.tensorflow_gpu import TensorFlowGpuEngine
    from models.packages import ModelPackage

__all__ = [
    "AUTOMATIC",
    "Engine",
    "EngineError",
    "EngineName",
    "EngineOptions",
    "GpuPolicy",
    "Mask",
    "MaskEngine",
    "Precision",
    "import_tensorflow",
    "load_engine",
]

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """Runs a network. Safe to use from several threads."""

    @property
    def batch_size(self) -> int:
        """Photos to pass to a call; lower after memory has run out."""

    @property
    def streams(self) -> int:
        """Number of calls to run concurrently."""

    @property
    def precision(self) -> Precision:
        """Precision of the network's arithmetic, never `AUTO`."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Map uint8 RGB photos `(N, h, w, 3)` to float32 logits `(N, h / s, w / s, classes)`.

        N is arbitrary; a batch that does not fit into memory is split.

        Raises:
            EngineError: not even one photo fits into memory.
        """


@runtime_checkable
class MaskEngine(Engine, Protocol):
    """An engine that computes masks on its device, so that logits need not leave it."""

    def predict_masks(
        self, images: np.ndarray, sizes: list[tuple[int, int]], margin: int = 0
    ) -> list[Mask | None]:
        """Compute the masks of photos, each at its own size.

        Args:
            images: uint8 RGB photos of shape `(N, h, w, 3)`.
            sizes: height and width of each mask; photos beyond the last size are padding.
            margin: columns on each side of the photos that are cropped from the masks; see
                `models.upsampling.neighbours`.

        Returns:
            For each size the mask and the pixels of each class, as `logits_to_mask` returns them
            for the photo's logits; None where logits are not finite.

        Raises:
            EngineError: not even one photo fits into memory.
        """


def load_engine(package: "ModelPackage", options: EngineOptions = AUTOMATIC) -> Engine:
    """Return an engine for `package`; on a GPU it is a `MaskEngine`, warmed up.

    `EngineName.AUTO` is TensorFlow if there is a GPU, else OpenVINO, else TensorFlow on the CPU. If
    `KERAS_BACKEND` names another backend, it is Keras on that backend. How OpenVINO computes is
    measured, see `choosing`.

    Raises:
        PackageError: the weights do not fit the package's description.
        EngineError: the requested engine is not available, or a GPU is required and none can be
            used.
    """
    name = options.name
    if name is EngineName.AUTO and devices.keras_backend() != devices.TENSORFLOW:
        return _on_keras(package, options)
    if name is EngineName.JAX:
        _choose_jax()
        return _on_keras(package, options)
    if name is EngineName.TENSORFLOW and devices.keras_backend() != devices.TENSORFLOW:
        raise EngineError(
            f"Keras runs on {devices.keras_backend()} in this process: set "
            f"KERAS_BACKEND={devices.TENSORFLOW}, or choose another engine"
        )
    if name is EngineName.OPENVINO:
        if options.gpu is GpuPolicy.REQUIRED:
            raise EngineError(
                "a GPU is required, and OpenVINO runs on CPUs here: choose the engine auto, "
                "tensorflow or jax"
            )
    elif options.precision is not Precision.INT8 and (gpu := _on_gpu(package, options)):
        return gpu
    if name is not EngineName.TENSORFLOW:
        from models.engines import choosing, openvino

        try:
            return openvino.load(package, choosing.settled(package, options))
        except EngineError as error:
            if name is EngineName.OPENVINO or options.precision is Precision.INT8:
                raise
            logger.warning("TensorFlow is used instead of OpenVINO: %s", error)
    import_tensorflow()
    from models.engines.tensorflow_cpu import TensorFlowEngine

    return TensorFlowEngine(package, options)


def _on_gpu(package: "ModelPackage", options: EngineOptions) -> "TensorFlowGpuEngine | None":
    device = devices.find_gpu(options.gpu)
    if not device:
        return None
    import tensorflow as tf

    from models.engines.tensorflow_gpu import TensorFlowGpuEngine

    if options.precision is Precision.F32:
        tf.config.experimental.enable_tensor_float_32_execution(False)
    precision = devices.keras_choice(options.precision, device)
    try:
        engine = TensorFlowGpuEngine(package, device, precision, batch_size=options.batch_size)
        engine.warm_up()
        return engine
    except (tf.errors.OpError, EngineError) as error:
        reason = f"the GPU cannot run the network: {str(error).splitlines()[0]}"
        devices.do_without_gpu(options.gpu is GpuPolicy.REQUIRED, reason)
        return None


def _on_keras(package: "ModelPackage", options: EngineOptions) -> Engine:
    from models.engines.keras_backends import KerasEngine

    return KerasEngine(package, options)


def _choose_jax() -> None:
    """Select JAX as the backend of Keras in this process."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = EngineName.JAX.value
    if devices.keras_backend() != EngineName.JAX.value:
        raise EngineError(
            f"Keras already runs on {devices.keras_backend()} in this process: set "
            "KERAS_BACKEND=jax before the program starts"
        )
    try:
        import jax  # noqa: F401
    except ImportError as error:
        raise EngineError(
            f"JAX cannot be imported ({error}): pip install jax, or choose another engine"
        ) from error
