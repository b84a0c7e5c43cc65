"""The network alone, on batches in the GPU's memory: no transfers and no masks."""

from pathlib import Path

from benchmarks.gpu import resident_speed
from models.packages import load_package


def run(archive: Path, output: Path, model: str) -> dict[str, float]:
    return {"images_per_second": resident_speed(load_package(model))}
