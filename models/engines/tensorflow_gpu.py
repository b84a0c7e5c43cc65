"""TensorFlow on a GPU: half precision, compiled by XLA, with masks computed on the GPU."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from models.engines import batches, devices, tiles
from models.engines.options import Precision
from models.packages import ModelPackage

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger(__name__)

STREAMS = 2
"""Two threads, so that one fetches masks while the other's batch is computed."""


class TensorFlowGpuEngine(batches.BatchedEngine):
    """Runs programs compiled by XLA, one per batch shape; only masks and counts leave the GPU.

    Logits are float32. Photos whose logits overflow in half precision are computed again in single
    precision. A lock lets one thread at a time start a batch, so that the GPU's memory holds the
    activations of one batch only; threads fetch and assemble their masks concurrently.

    Args:
        package: the model to run. Its weights are read here.
        device: TensorFlow's name of the device.
        precision: of the network, one of `devices.POLICIES`.
        jit_compile: whether to compile by XLA; for a GPU, not for a CPU.
        batch_size: photos in a batch; None: chosen by the device's memory.

    Raises:
        PackageError: the weights do not fit the package's description.
    """

    def __init__(
        self,
        package: ModelPackage,
        device: str,
        precision: Precision,
        jit_compile: bool = True,
        batch_size: int | None = None,
    ):
        self._device = device
        self._policy = devices.POLICIES[precision]
        self._network = _Network(package, device, self._policy, jit_compile)
        self._overflowed = False
        self._lock = threading.Lock()
        self._nominal = package.nominal_shape
        if batch_size is None:
            needed = self._network.activation_bytes(*self._nominal)
            batch_size = batches.fitting(needed, devices.device_memory(device))
        super().__init__(batch_size, STREAMS, precision)

    def warm_up(self) -> None:
        """Compile the programs for a full batch of the nominal shape, and log the settings."""
        start = time.perf_counter()
        images = np.zeros((self.batch_size, *self._nominal, 3), np.uint8)
        self.predict_masks(images, [self._nominal] * len(images))
        logger.info(
            "%s: %s, batches of %d photos, ready after %.0f s",
            self._device, self._policy, self.batch_size, time.perf_counter() - start,
        )  # fmt: skip

    def predict_masks(
        self, images: np.ndarray, sizes: Sequence[tuple[int, int]], margin: int = 0
    ) -> list[tiles.Mask | None]:
        """See `MaskEngine.predict_masks`."""
        parts = self._batches.run(
            len(images), lambda part: self._predict_masks(images[part], sizes[part], margin)
        )
        return list(chain.from_iterable(parts))

    def _predict(self, images: np.ndarray) -> np.ndarray:
        batch = self._start(images, (), self._policy)
        logits, finite = batch.logits.numpy(), batch.finite.numpy()
        if not finite.all() and self._has_another_try():
            logits[~finite] = self._start(images, (), devices.FLOAT32).logits.numpy()[~finite]
        return logits

    def _predict_masks(
        self, images: np.ndarray, sizes: Sequence[tuple[int, int]], margin: int = 0
    ) -> list[tiles.Mask | None]:
        if not sizes:
            return []
        masks = self._start(images, sizes, self._policy, margin).masks(sizes)
        if None not in masks or not self._has_another_try():
            return masks
        precise = self._start(images, sizes, devices.FLOAT32, margin).masks(sizes)
        return [mask or again for mask, again in zip(masks, precise, strict=True)]

    def _start(
        self, images: np.ndarray, sizes: Sequence[tuple[int, int]], precision: str, margin: int = 0
    ) -> "_Batch":
        with self._lock:
            return self._network.start(images, sizes, precision, margin)

    def _has_another_try(self) -> bool:
        """Whether photos that overflowed can be computed in single precision."""
        if self._policy == devices.FLOAT32:
            return False
        if not self._overflowed:
            self._overflowed = True
            logger.warning(
                "The network overflows in %s: such photos are computed again in %s",
                self._policy, devices.FLOAT32,
            )  # fmt: skip
        return True


@dataclass(frozen=True, eq=False)
class _Batch:
    """Results of a batch on the device; their computation may not have finished."""

    logits: "tf.Tensor"
    finite: "tf.Tensor"
    parts: Sequence[tiles.Tile]

    def masks(self, sizes: Sequence[tuple[int, int]]) -> list[tiles.Mask | None]:
        """Wait for and return the masks of the first photos, at `sizes`."""
        masks = tiles.assemble(self.parts, sizes)
        finite = self.finite.numpy()[: len(masks)]
        return [mask if good else None for mask, good in zip(masks, finite, strict=True)]


class _Network:
    """A network with a program for each batch shape and precision. Not thread-safe."""

    def __init__(self, package: ModelPackage, device: str, precision: str, jit_compile: bool):
        import tensorflow as tf

        self._device = device
        self._precision = precision
        self._jit_compile = jit_compile
        self._mean = np.asarray(package.mean, np.float32) * 255
        self._std = np.asarray(package.std, np.float32) * 255
        self._programs: dict[tuple[tuple[int, ...], str], Callable] = {}
        self._tile_programs: dict[tuple[int, ...], Callable] = {}
        with tf.device(device), devices.keras_precision(precision):
            self._network = package.build_network()

    def start(
        self, images: np.ndarray, sizes: Sequence[tuple[int, int]], precision: str, margin: int
    ) -> _Batch:
        """Start a batch and the masks of its first photos, at `sizes` and without margins."""
        import tensorflow as tf

        with tf.device(self._device):
            key = images.shape, precision
            if key not in self._programs:
                self._programs[key] = self._trace(*key)
            logits, finite = self._programs[key](tf.constant(images))
            if not sizes:
                return _Batch(logits, finite, ())
            shape = tuple(logits.shape)
            if shape not in self._tile_programs:
                self._tile_programs[shape] = tiles.compile_tile(shape, self._jit_compile)
            cut = margin * shape[2] // images.shape[2]
            parts = tiles.start(self._tile_programs[shape], logits, sizes, cut)
            return _Batch(logits, finite, parts)

    def activation_bytes(self, height: int, width: int) -> int:
        """Sum the bytes of the results of all operations on one photo of this shape.

        An upper bound, since memory is reused; the rest is left to the masks, cuDNN and XLA.
        """
        program = self._trace((1, height, width, 3), self._precision)
        tensors = (
            tensor
            for operation in program.graph.get_operations()
            if operation.type != "ReadVariableOp"
            for tensor in operation.outputs
        )
        return sum(tensor.dtype.size * (tensor.shape.num_elements() or 0) for tensor in tensors)

    def _trace(
        self, shape: tuple[int, ...], precision: str
    ) -> "tf.types.experimental.ConcreteFunction":
        import tensorflow as tf

        def logits(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            normalised = (tf.cast(images, tf.float32) - self._mean) / self._std
            values = tf.cast(self._network(normalised, training=False), tf.float32)
            return values, tf.reduce_all(tf.math.is_finite(values), axis=(1, 2, 3))

        program = tf.function(logits, jit_compile=self._jit_compile, autograph=False)
        with self._computing_in(precision):
            return program.get_concrete_function(tf.TensorSpec(shape, tf.uint8))

    @contextmanager
    def _computing_in(self, precision: str) -> Iterator[None]:
        """Trace with the network's own dtype policies or in float32, with the same weights."""
        policies = [layer.dtype_policy for layer in self._network.layers]
        if precision == devices.FLOAT32:
            for layer in self._network.layers:
                layer.dtype_policy = devices.FLOAT32
        try:
            yield
        finally:
            for layer, policy in zip(self._network.layers, policies, strict=True):
                layer.dtype_policy = policy
