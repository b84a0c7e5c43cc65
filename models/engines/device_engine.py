"""Engines for GPUs: compiled programs, half precision, masks computed on the device.

They are written in `keras.ops`. What differs between the frameworks that Keras runs on is in
`tensorflow_device.py` and `jax_device.py`.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np

from models.engines import batches, devices, tiles
from models.engines.options import Precision
from models.packages import ModelPackage
from models.uncertainty import grid_step

logger = logging.getLogger(__name__)

STREAMS = 2
"""Two threads, so that one copies photos and fetches masks while the other's batch is computed."""


class Device(Protocol):
    """A device of the framework that Keras runs on.

    Attributes:
        name: the device, as `keras.device` takes it.
    """

    name: Any

    @property
    def memory(self) -> int:
        """Bytes that programs may use."""

    def compile(self, function: Callable, *specs: Any) -> Callable:
        """Compile a function for arguments with the shapes and dtypes of `specs`.

        Specs are tensors, `keras.KerasTensor`s, or lists of them.
        """

    def result_bytes(self, function: Callable, *specs: Any) -> int:
        """Sum the bytes of the results of all operations of a function, without compiling it."""


class DeviceEngine(batches.BatchedEngine):
    """Runs a network in compiled programs, one per batch shape.

    Photos are copied to the device as uint8 and normalised there. Logits are float32. Photos whose
    logits overflow in half precision are computed again in single precision. The weights are on the
    device once and passed to the programs, which have no state: threads run them side by side, and
    the device's memory holds the activations of as many batches as there are streams at most.

    Args:
        package: the model to run. Its weights are read here.
        device: where to run it.
        precision: of the network, one of `devices.POLICIES`.
        batch_size: photos in a batch; None: chosen by the device's memory.

    Raises:
        PackageError: the weights do not fit the package's description.
    """

    def __init__(
        self,
        package: ModelPackage,
        device: Device,
        precision: Precision,
        batch_size: int | None = None,
    ):
        self._device = device
        self._policy = devices.POLICIES[precision]
        self._network = _Network(package, device, self._policy)
        self._overflowed = False
        self._nominal = package.nominal_shape
        if batch_size is None:
            needed = self._network.activation_bytes(*self._nominal)
            batch_size = batches.fitting(needed, device.memory)
        super().__init__(batch_size, STREAMS, precision)

    def _predict(self, images: np.ndarray) -> np.ndarray:
        logits, finite = self._network.start(images, (), self._policy).values()
        if finite.all() or not self._has_another_try():
            return logits
        precise, _ = self._network.start(images, (), devices.FLOAT32).values()
        return np.where(finite[:, None, None, None], logits, precise)

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


class DeviceMaskEngine(DeviceEngine):
    """Computes masks on the device as well: only these and counts leave it.

    For GPUs; on a CPU the loops of `models.interpolation` are quicker.
    """

    def warm_up(self) -> None:
        """Compile the programs for a full batch of the nominal shape, and log the settings."""
        start = time.perf_counter()
        images = np.zeros((self.batch_size, *self._nominal, 3), np.uint8)
        self.predict_masks(images, [self._nominal] * len(images))
        logger.info(
            "%s: %s, batches of %d photos, ready after %.0f s",
            self._device.name, self._policy, self.batch_size, time.perf_counter() - start,
        )  # fmt: skip

    def predict_masks(
        self, images: np.ndarray, sizes: Sequence[tuple[int, int]], margin: int = 0
    ) -> list[tiles.DeviceMask | None]:
        """See `MaskEngine.predict_masks`."""
        parts = self._batches.run(
            len(images), lambda part: self._predict_masks(images[part], sizes[part], margin)
        )
        return list(chain.from_iterable(parts))

    def _predict_masks(
        self, images: np.ndarray, sizes: Sequence[tuple[int, int]], margin: int = 0
    ) -> list[tiles.DeviceMask | None]:
        if not sizes:
            return []
        masks = self._network.start(images, sizes, self._policy, margin).masks(sizes)
        if None not in masks or not self._has_another_try():
            return masks
        precise = self._network.start(images, sizes, devices.FLOAT32, margin).masks(sizes)
        return [mask or again for mask, again in zip(masks, precise, strict=True)]


@dataclass(frozen=True, eq=False)
class _Batch:
    """Results of a batch on the device; their computation may not have finished."""

    logits: Any
    finite: Any
    grid: Any
    parts: Sequence[tiles.Tile]

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Wait for and return the logits, and for each photo whether all of its are finite."""
        from keras import ops

        return ops.convert_to_numpy(self.logits), ops.convert_to_numpy(self.finite)

    def masks(self, sizes: Sequence[tuple[int, int]]) -> list[tiles.DeviceMask | None]:
        """Wait for and return the masks of the first photos, at `sizes`."""
        from keras import ops

        masks = tiles.assemble(self.parts, sizes)
        finite, grids = map(ops.convert_to_numpy, (self.finite, self.grid))
        return [
            tiles.DeviceMask(*mask, grid) if good else None
            for mask, good, grid in zip(masks, finite, grids, strict=False)
        ]


class _Network:
    """A network with a program for each batch shape and policy. Safe to use from threads."""

    def __init__(self, package: ModelPackage, device: Device, policy: str):
        import keras

        self._device = device
        self._policy = policy
        self._mean = np.asarray(package.mean, np.float32) * 255
        self._std = np.asarray(package.std, np.float32) * 255
        self._programs: dict[tuple[tuple[int, ...], str], Callable] = {}
        self._tile_programs: dict[tuple[int, ...], Callable] = {}
        self._compiling = threading.Lock()
        with keras.device(device.name), devices.keras_precision(policy):
            self._network = package.build_network()
            self._weights = [
                [keras.ops.convert_to_tensor(variable) for variable in variables]
                for variables in (
                    self._network.trainable_variables,
                    self._network.non_trainable_variables,
                )
            ]

    def start(
        self, images: np.ndarray, sizes: Sequence[tuple[int, int]], policy: str, margin: int = 0
    ) -> _Batch:
        """Start a batch and the masks of its first photos, at `sizes` and without margins."""
        import keras

        with keras.device(self._device.name):
            program = self._program(images.shape, policy)
            logits, finite, grid = program(self._weights, keras.ops.convert_to_tensor(images))
            if not sizes:
                return _Batch(logits, finite, grid, ())
            shape = tuple(logits.shape)
            cut = margin * shape[2] // images.shape[2]
            parts = tiles.start(self._tile_program(shape), logits, sizes, cut)
            return _Batch(logits, finite, grid, parts)

    def activation_bytes(self, height: int, width: int) -> int:
        """Sum the bytes of the results of all operations on one photo of this shape.

        An upper bound, since memory is reused; the rest is left to the masks, cuDNN and XLA.
        """
        with self._computing_in(self._policy):
            return self._device.result_bytes(self._logits, *self._specs((1, height, width, 3)))

    def _program(self, shape: tuple[int, ...], policy: str) -> Callable:
        with self._compiling:
            if (shape, policy) not in self._programs:
                with self._computing_in(policy):
                    program = self._device.compile(self._logits, *self._specs(shape))
                self._programs[shape, policy] = program
            return self._programs[shape, policy]

    def _tile_program(self, shape: tuple[int, ...]) -> Callable:
        with self._compiling:
            if shape not in self._tile_programs:
                program = self._device.compile(tiles.fill_tile, *tiles.specs(shape))
                self._tile_programs[shape] = program
            return self._tile_programs[shape]

    def _specs(self, shape: tuple[int, ...]) -> tuple[Any, Any]:
        import keras

        return self._weights, keras.KerasTensor(shape, "uint8")

    def _logits(self, weights, images):
        """Return logits of uint8 photos, for each whether all are finite, and a grid of them."""
        from keras import ops

        normalised = (ops.cast(images, "float32") - self._mean) / self._std
        values, _ = self._network.stateless_call(*weights, normalised, training=False)
        values = ops.cast(values, "float32")
        step = grid_step(*values.shape[1:3])
        return values, ops.all(ops.isfinite(values), axis=(1, 2, 3)), values[:, ::step, ::step]

    @contextmanager
    def _computing_in(self, policy: str) -> Iterator[None]:
        """Trace with the network's own dtype policies or in float32, with the same weights."""
        policies = [layer.dtype_policy for layer in self._network.layers]
        if policy == devices.FLOAT32:
            for layer in self._network.layers:
                layer.dtype_policy = devices.FLOAT32
        try:
            yield
        finally:
            for layer, policy in zip(self._network.layers, policies, strict=True):
                layer.dtype_policy = policy
