"""Batch sizes: chosen by the available memory, and halved when memory runs out."""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from models.engines.options import EngineError, Precision

logger = logging.getLogger(__name__)

CPU_BATCH_SIZE = 1
"""On a CPU each core processes its own photo, which is faster than sharing a batch."""

MOST_ON_GPU = 16
"""Largest batch that is chosen automatically, as the last batch of each shape in a work unit is
rarely full; larger ones can be requested."""

OUT_OF_MEMORY_ERROR = "ResourceExhaustedError"
"""Name of TensorFlow's exception."""

OUT_OF_MEMORY_MESSAGES = (
    *("RESOURCE_EXHAUSTED", "out of memory"),
    *("failed to allocate memory", "ALLOC_FAILED", "bad allocation"),
)
"""What messages of XLA in JAX and of ONNX Runtime hold, in capital or small letters. Those of
computations in XLA that fail after they have been started state another error first."""

T = TypeVar("T")


def fitting(bytes_per_photo: int, memory: int) -> int:
    """Return the largest batch size that fits into memory: a power of two up to `MOST_ON_GPU`."""
    return min(MOST_ON_GPU, 1 << max(1, memory // bytes_per_photo).bit_length() - 1)


class Batches:
    """Splits batches that do not fit into memory, and remembers the size that fits.

    Safe to use from several threads.

    Args:
        size: photos in a batch, if they fit.
    """

    def __init__(self, size: int):
        self._size = size
        self._limit: int | None = None
        self._refused = self._told = 0
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """The current number of photos in a batch."""
        return self._size if self._limit is None else min(self._size, self._limit)

    def run(self, count: int, work: Callable[[slice], T]) -> list[T]:
        """Call `work` with slices of a batch of `count` photos: with one slice, if all fit.

        When memory runs out, the slices are halved, also for later batches.

        Returns:
            The results of the calls, in order.

        Raises:
            EngineError: not even one photo fits into memory.
        """
        answers: list[T] = []
        start = 0
        while start < count:
            length = min(count - start, self._limit or count)
            try:
                answers.append(work(slice(start, start + length)))
            except Exception as error:
                if not _is_out_of_memory(error):
                    raise
                self._halve(length, error)
                continue
            start += length
            if self._limit != self._told:
                self._tell()
        return answers

    def _halve(self, length: int, error: Exception) -> None:
        if length == 1:
            raise EngineError(
                "out of memory with one photo at a time: use a model with a smaller input or "
                f"width, or a machine with more memory ({str(error).partition(chr(10))[0]})"
            ) from error
        with self._lock:
            self._refused = max(self._refused, length)
            self._limit = min(self._limit or length, length // 2)

    def _tell(self) -> None:
        with self._lock:
            if self._limit and self._limit != self._told:
                logger.warning(
                    "Out of memory with a batch of %d photos: reduced to %d",
                    self._refused, self._limit,
                )  # fmt: skip
                self._refused, self._told = 0, self._limit


class BatchedEngine:
    """Base of all engines: splits batches that do not fit into memory.

    Args:
        batch_size: photos in a batch, if they fit.
        streams: see `Engine.streams`.
        precision: see `Engine.precision`.
    """

    def __init__(self, batch_size: int, streams: int, precision: Precision):
        self._batches = Batches(batch_size)
        self._streams = streams
        self._precision = precision

    @property
    def batch_size(self) -> int:
        """See `Engine.batch_size`."""
        return self._batches.size

    @property
    def streams(self) -> int:
        """See `Engine.streams`."""
        return self._streams

    @property
    def precision(self) -> Precision:
        """See `Engine.precision`."""
        return self._precision

    def predict(self, images: np.ndarray) -> np.ndarray:
        """See `Engine.predict`."""
        parts = self._batches.run(len(images), lambda part: self._predict(images[part]))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _predict(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits of one batch; raises the framework's error when memory runs out."""
        raise NotImplementedError


def _is_out_of_memory(error: Exception) -> bool:
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == OUT_OF_MEMORY_ERROR
        or any(part.lower() in str(error).lower() for part in OUT_OF_MEMORY_MESSAGES)
    )
