"""Engines: a model package made ready to run on this machine."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from models.engines.devices import (
    EngineError,
    GpuPolicy,
    do_without_gpu,
    dtype_policy,
    find_gpu,
    import_tensorflow,
)
from models.engines.tiles import Mask

if TYPE_CHECKING:
    from models.packages import ModelPackage

__all__ = [
    "Engine",
    "EngineError",
    "GpuPolicy",
    "Mask",
    "MaskEngine",
    "find_gpu",
    "import_tensorflow",
    "load_engine",
]


class Engine(Protocol):
    """What a pipeline needs of a network. Safe to use from several threads."""

    @property
    def batch_size(self) -> int:
        """How many photos to hand over at once; fewer once memory has run out."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Map uint8 RGB photos `(N, h, w, 3)` to float32 logits `(N, h / s, w / s, classes)`.

        Any N is taken; what does not fit into memory is done in parts.

        Raises:
            EngineError: memory does not suffice for one photo.
        """


@runtime_checkable
class MaskEngine(Engine, Protocol):
    """An engine that makes masks where its network runs, so that logits need not leave it."""

    def predict_masks(self, images: np.ndarray, sizes: list[tuple[int, int]]) -> list[Mask | None]:
        """The masks of photos, each at a size of its own.

        Args:
            images: uint8 RGB photos of shape `(N, h, w, 3)`.
            sizes: height and width of each mask; photos beyond the last size are padding.

        Returns:
            For each size the mask and the pixels of each class, as `logits_to_mask` gives them for
            the photo's logits; None where those are not finite.

        Raises:
            EngineError: memory does not suffice for one photo.
        """


def load_engine(
    package: "ModelPackage",
    gpu: GpuPolicy = GpuPolicy.IF_PRESENT,
    batch_size: int | None = None,
) -> Engine:
    """The engine for `package` on this machine: a `MaskEngine` on a GPU, and warmed up there.

    Args:
        package: the model to run.
        gpu: what to do where there is no GPU, or one that cannot be used.
        batch_size: photos in a batch; None: 4 on a CPU, by its memory on a GPU.

    Raises:
        PackageError: the weights do not fit the package's description.
        EngineError: a GPU is required, and none can be used.
    """
    import_tensorflow()
    import keras

    if keras.backend.backend() != "tensorflow":
        from models.engines.other import KerasEngine

        return KerasEngine(package, gpu, batch_size)

    import tensorflow as tf

    from models.engines.cpu import CpuEngine
    from models.engines.gpu import GpuEngine

    device = find_gpu(gpu)
    if device:
        try:
            engine = GpuEngine(package, device, dtype_policy(device), batch_size=batch_size)
            engine.warm_up()
            return engine
        except (tf.errors.OpError, EngineError) as error:
            reason = f"there is one, but it cannot run the network: {str(error).splitlines()[0]}"
            do_without_gpu(gpu is GpuPolicy.REQUIRED, reason)
    return CpuEngine(package, batch_size)
