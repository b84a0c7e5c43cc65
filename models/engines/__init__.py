"""Engines: they run the network of a model package on this machine."""

import logging
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from models.engines import devices, gpus, imported
from models.engines.options import (
    AUTOMATIC,
    EngineError,
    EngineName,
    EngineOptions,
    GpuPolicy,
    Precision,
)
from models.engines.tiles import DeviceMask, Mask

if TYPE_CHECKING:
    from models.packages import ModelPackage

__all__ = [
    "AUTOMATIC",
    "DeviceMask",
    "Engine",
    "EngineError",
    "EngineName",
    "EngineOptions",
    "GpuPolicy",
    "Mask",
    "MaskEngine",
    "Precision",
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

        N is arbitrary; a batch that does not fit into memory is split. Some imported networks give
        class ids instead, uint8 `(N, h / s, w / s)`; see `models.graphs.Gives`.

        Raises:
            EngineError: not even one photo fits into memory.
        """


@runtime_checkable
class MaskEngine(Engine, Protocol):
    """An engine that computes masks on its device, so that logits need not leave it."""

    def predict_masks(
        self, images: np.ndarray, sizes: list[tuple[int, int]], margin: int = 0
    ) -> list[DeviceMask | None]:
        """Compute the masks of photos, each at its own size.

        Args:
            images: uint8 RGB photos of shape `(N, h, w, 3)`.
            sizes: height and width of each mask; photos beyond the last size are padding.
            margin: columns on each side of the photos that are cropped from the masks; see
                `models.upsampling.neighbours`.

        Returns:
            For each size the mask and the pixels of each class, as `logits_to_mask` returns them
            for the photo's logits, and some of these logits; None where they are not finite.

        Raises:
            EngineError: not even one photo fits into memory.
        """


def load_engine(package: "ModelPackage", options: EngineOptions = AUTOMATIC) -> Engine:
    """Return an engine for `package`; on a GPU it is a `MaskEngine`, warmed up.

    `EngineName.AUTO` is TensorFlow or JAX if it sees a GPU, else OpenVINO, else TensorFlow on the
    CPU. If `KERAS_BACKEND` is jax, it is JAX. How OpenVINO computes is measured, see `choosing`.
    For imported networks see `imported.load`.

    Raises:
        PackageError: the weights do not fit the package's description.
        EngineError: the requested engine is not available, or a GPU is required and none can be
            used.
    """
    imported.check_engine(package, options.name)
    if package.graph:
        return imported.load(package, options)
    name, backend = options.name, devices.keras_backend()
    if name is EngineName.JAX or (name is EngineName.AUTO and backend == devices.JAX):
        return gpus.on_jax(package, options)
    if name is not EngineName.OPENVINO and backend != devices.TENSORFLOW:
        raise EngineError(
            f"Keras runs on {backend} in this process: set "
            f"{devices.KERAS_BACKEND}={devices.TENSORFLOW}, or choose another engine"
        )
    if name is EngineName.OPENVINO:
        if options.gpu is GpuPolicy.REQUIRED:
            raise EngineError(
                "a GPU is required, and OpenVINO runs on CPUs here: choose the engine auto, "
                "tensorflow or jax"
            )
    elif options.precision is not Precision.INT8 and (gpu := gpus.on_gpu(package, options)):
        return gpu
    if name is not EngineName.TENSORFLOW:
        from models.engines import choosing, openvino

        try:
            return openvino.load(package, choosing.settled(package, options))
        except EngineError as error:
            if name is EngineName.OPENVINO or options.precision is Precision.INT8:
                raise
            logger.warning("TensorFlow is used instead of OpenVINO: %s", error)
    devices.import_tensorflow()
    from models.engines.tensorflow_cpu import TensorFlowEngine

    return TensorFlowEngine(package, options)
