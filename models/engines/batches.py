"""How many photos are in a batch: chosen by memory, halved where memory runs out."""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from models.engines.options import EngineError

logger = logging.getLogger(__name__)

CPU_BATCH_SIZE = 1
"""On a CPU each core does a photo of its own, which is faster than to share a batch."""

MOST_ON_GPU = 16
"""Larger batches are not chosen, but can be asked for: the last batch of each shape in a unit is
rarely full."""

OUT_OF_MEMORY_ERROR = "ResourceExhaustedError"
"""TensorFlow's error."""

OUT_OF_MEMORY_MESSAGE = "RESOURCE_EXHAUSTED"
"""How messages of XLA begin, in JAX."""

T = TypeVar("T")


def fitting(bytes_per_photo: int, memory: int) -> int:
    """The largest power of two up to `MOST_ON_GPU` of which so many photos fit into memory."""
    return min(MOST_ON_GPU, 1 << max(1, memory // bytes_per_photo).bit_length() - 1)


class Batches:
    """Splits batches that do not fit into memory, and remembers what did fit.

    Safe to use from several threads.

    Args:
        size: photos in a batch, as long as they fit.
    """

    def __init__(self, size: int):
        self._size = size
        self._limit: int | None = None
        self._refused = self._told = 0
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Photos in a batch as things stand."""
        return self._size if self._limit is None else min(self._size, self._limit)

    def run(self, count: int, work: Callable[[slice], T]) -> list[T]:
        """Call `work` with the slices of a batch of `count` photos: one slice, if they fit.

        Where memory runs out, the slices are halved, for all later batches as well.

        Returns:
            What the calls returned, in order.

        Raises:
            EngineError: memory does not suffice for one photo.
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
                "out of memory with one photo at a time: take a model of a smaller input or width, "
                f"or a machine with more memory ({str(error).partition(chr(10))[0]})"
            ) from error
        with self._lock:
            self._refused = max(self._refused, length)
            self._limit = min(self._limit or length, length // 2)

    def _tell(self) -> None:
        with self._lock:
            if self._limit and self._limit != self._told:
                logger.warning(
                    "Out of memory with %d photos in a batch: from now on there are %d",
                    self._refused, self._limit,
                )  # fmt: skip
                self._refused, self._told = 0, self._limit


class BatchedEngine:
    """What all engines share: batches that are halved where memory runs out.

    Args:
        batch_size: photos in a batch, as long as they fit.
        streams: see `Engine.streams`.
    """

    def __init__(self, batch_size: int, streams: int):
        self._batches = Batches(batch_size)
        self._streams = streams

    @property
    def batch_size(self) -> int:
        """See `Engine.batch_size`."""
        return self._batches.size

    @property
    def streams(self) -> int:
        """See `Engine.streams`."""
        return self._streams

    def predict(self, images: np.ndarray) -> np.ndarray:
        """See `Engine.predict`."""
        parts = self._batches.run(len(images), lambda part: self._predict(images[part]))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _predict(self, images: np.ndarray) -> np.ndarray:
        """The logits of photos that fit into memory at once."""
        raise NotImplementedError


def _is_out_of_memory(error: Exception) -> bool:
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == OUT_OF_MEMORY_ERROR
        or str(error).startswith(OUT_OF_MEMORY_MESSAGE)
    )
