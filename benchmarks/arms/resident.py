"""The network alone, on batches in the GPU's memory: no transfers and no masks."""

from importlib.util import find_spec
from pathlib import Path

from benchmarks.gpu_measures import devices_of, resident_speed
from models.engines import devices, tensorflow_device
from models.engines.batches import MOST_ON_GPU
from models.packages import load_package

SECONDS = 5.0


def run(archive: Path, output: Path, model: str) -> dict[str, float]:
    in_tensorflow = find_spec(devices.TENSORFLOW) and tensorflow_device.find_gpu()
    device, _, precision = devices_of(devices.TENSORFLOW if in_tensorflow else devices.JAX)
    speed = resident_speed(load_package(model), device, precision, MOST_ON_GPU, SECONDS)
    return {"images_per_second": speed}
