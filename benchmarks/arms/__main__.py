"""`python -m benchmarks.arms ARM ARCHIVE OUTPUT MODEL [OPTION ...]` runs an arm and measures it."""

import json
import os
import resource
import sys
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from benchmarks.arms import MASKS, Measured


def main(name: str, archive: str, output: str, model: str, *options: str) -> None:
    arm = import_module(f"benchmarks.arms.{name}")
    began, start, cpu_before = time.time(), time.perf_counter(), cpu_seconds()
    details = arm.run(Path(archive), Path(output), model, *options)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu_before
    images = len(list(Path(output, MASKS).glob("*.png")))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measured = Measured(images, began, seconds, cpu, peak, details or {})
    print("\n" + json.dumps(asdict(measured)))


def cpu_seconds() -> float:
    """CPU time of this process and its awaited child processes."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main(*sys.argv[1:])
