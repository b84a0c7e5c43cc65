"""Measure a GPU's speed by batch size, and the differences of masks by precision.

The speed is that from photos in memory to masks in memory, without reading, decoding, encoding and
writing. The first call with a batch size compiles and is listed separately. Masks of each precision
are computed on the CPU, so that this table needs no GPU, and compared with those of the CPU engine:
the figure is the share of pixels of another class.

    python benchmarks/gpu.py [--model NAME_OR_PATH] [--photos DIR] [--batch-sizes 1,4,16,64]
"""

import argparse
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf
from models.engines.tensorflow_gpu import TensorFlowGpuEngine
from PIL import Image

from models.engines.batches import MOST_ON_GPU
from models.engines.devices import POLICIES, find_gpu, keras_choice, keras_precision
from models.engines.options import GpuPolicy, Precision
from models.engines.tensorflow_cpu import TensorFlowEngine
from models.inputs import network_shape, resize
from models.packages import ModelPackage, load_package
from models.speed import machine
from models.upsampling import logits_to_mask

ROOT = Path(__file__).resolve().parents[1]
PRECISIONS = (Precision.F32, Precision.F16, Precision.BF16)
REPEATS = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default", help="name or path of a model")
    parser.add_argument("--photos", type=Path, default=ROOT / "demo" / "photos")
    parser.add_argument("--batch-sizes", default="1,4,16,64", help="separated by commas")
    arguments = parser.parse_args()
    package = load_package(arguments.model)
    shape_for = partial(
        network_shape, input_width=package.input_width, input_height=package.input_height
    )
    photos = []
    for path in sorted(arguments.photos.rglob("*.jp*g")):
        with Image.open(path) as image:
            shape = shape_for(image.width, image.height)
            photos.append((resize(image.convert("RGB"), shape), (image.height, image.width)))
    if not photos:
        sys.exit(f"{arguments.photos}: no JPEG; give a folder with --photos")
    device = find_gpu(GpuPolicy.WANTED)
    if device:
        gpu = tf.config.list_physical_devices("GPU")[0]
        name = tf.config.experimental.get_device_details(gpu)["device_name"]
        print(f"\n{package.name} on {name}; {machine()}")
        precision = keras_choice(Precision.AUTO, device)
        print("| photos in a batch | first call, s | images/s |\n|---|---|---|")
        for size in map(int, arguments.batch_sizes.split(",")):
            engine = TensorFlowGpuEngine(
                package, device, keras_choice(Precision.AUTO, device), batch_size=size
            )
            first, speed = measure(engine, *photos[0])
            print(f"| {engine.batch_size} | {first:.1f} | {speed:.1f} |", flush=True)
        engine = TensorFlowGpuEngine(package, device, precision)
        print(f"chosen by the GPU's memory: {engine.batch_size}")
    print(f"\n{package.name}, {len(photos)} photos of {arguments.photos}")
    print("| precision | pixels of another class |\n|---|---|")
    reference = TensorFlowEngine(package)
    expected = [logits_to_mask(reference.predict(image[None])[0], *size) for image, size in photos]
    for precision in PRECISIONS:
        engine = TensorFlowGpuEngine(
            package, "/device:CPU:0", precision, jit_compile=False, batch_size=1
        )
        found = [engine.predict_masks(image[None], [size])[0] for image, size in photos]
        share = np.mean([np.mean(a[0] != b[0]) for a, b in zip(expected, found, strict=True)])
        print(f"| {precision.value} | {share:.4%} |", flush=True)


def measure(
    engine: TensorFlowGpuEngine, image: np.ndarray, size: tuple[int, int]
) -> tuple[float, float]:
    """Return the seconds of the first call with a full batch, and the median images/s of others."""
    seconds = []
    for _ in range(1 + REPEATS):
        images = np.repeat(image[None], engine.batch_size, axis=0)
        start = time.perf_counter()
        engine.predict_masks(images, [size] * len(images))
        seconds.append(time.perf_counter() - start)
    return seconds[0], engine.batch_size / statistics.median(seconds[1:])


def resident_speed(package: ModelPackage) -> float:
    """Measure photos per second of the network alone, on batches in the device's memory.

    The precision and the largest batch size are those of the engine; results stay on the device.
    """
    device = find_gpu(GpuPolicy.WANTED)
    precision = keras_choice(Precision.AUTO, device)
    with tf.device(device or "/device:CPU:0"), keras_precision(POLICIES[precision]):
        network = package.build_network()
        program = tf.function(
            lambda images: network(images, training=False), jit_compile=bool(device)
        )
        shape = (MOST_ON_GPU, package.input_height, package.input_width, 3)
        images = tf.random.uniform(shape, dtype=tf.as_dtype(network.compute_dtype))
        program(images)
        start = time.perf_counter()
        for _ in range(REPEATS):
            answer = program(images)
        answer.numpy()  # Calls are asynchronous and run in order; this waits for the last one.
    return REPEATS * MOST_ON_GPU / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
