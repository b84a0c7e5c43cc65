"""The speed of a network on this machine."""

import platform
import re
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from models.engines import Engine
from models.engines.devices import cores

REPEATS = 9
"""Timed rounds."""

ROUND = 4
"""Batches per stream in a round."""

CPU_INFO = Path("/proc/cpuinfo")


def images_per_second(engine: Engine, height: int, width: int) -> float:
    """Measure how many photos of `height` x `width` pixels `engine` segments per second.

    The median of `REPEATS` rounds of full batches in all streams, without reading and writing.
    """
    return compare_speeds([engine], height, width)[0]


def compare_speeds(engines: Sequence[Engine], height: int, width: int) -> list[float]:
    """The same for each of some engines, which take turns: what disturbs one disturbs all."""
    rounds = [_Round(engine, height, width) for engine in engines]
    seconds: list[list[float]] = [[] for _ in rounds]
    for run in rounds:
        run.seconds()
    for _ in range(REPEATS):
        for run, taken in zip(rounds, seconds, strict=True):
            taken.append(run.seconds())
    return [
        run.photos / statistics.median(taken) for run, taken in zip(rounds, seconds, strict=True)
    ]


class _Round:
    """Full batches for all streams of an engine."""

    def __init__(self, engine: Engine, height: int, width: int):
        images = np.zeros((engine.batch_size, height, width, 3), np.uint8)
        self._engine = engine
        self._batches = [images] * ROUND * engine.streams
        self.photos = len(self._batches) * len(images)

    def seconds(self) -> float:
        with ThreadPoolExecutor(self._engine.streams) as pool:
            start = time.perf_counter()
            list(pool.map(self._engine.predict, self._batches))
            return time.perf_counter() - start


def machine() -> str:
    """Describe this machine by its cores and processor, for speed figures."""
    processor = platform.processor() or platform.machine()
    if CPU_INFO.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", CPU_INFO.read_text(), re.MULTILINE)
        processor = found[1].strip() if found else processor
    return f"{cores()} cores, {processor}"
