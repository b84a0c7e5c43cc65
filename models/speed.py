"""The speed of a network on this machine."""

import platform
import re
import statistics
import time
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
    images = np.zeros((engine.batch_size, height, width, 3), np.uint8)
    batches = [images] * ROUND * engine.streams
    seconds = []
    with ThreadPoolExecutor(engine.streams) as pool:
        list(pool.map(engine.predict, batches))
        for _ in range(REPEATS):
            start = time.perf_counter()
            list(pool.map(engine.predict, batches))
            seconds.append(time.perf_counter() - start)
    return len(batches) * len(images) / statistics.median(seconds)


def machine() -> str:
    """Describe this machine by its cores and processor, for speed figures."""
    processor = platform.processor() or platform.machine()
    if CPU_INFO.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", CPU_INFO.read_text(), re.MULTILINE)
        processor = found[1].strip() if found else processor
    return f"{cores()} cores, {processor}"
