"""What `gpu_check.py` measures of an engine, in a process of its own, as Keras has one backend.

    python -m benchmarks.gpu_measures {speeds,memory} {tensorflow,jax} MODEL PHOTOS SECONDS

prints a row per measurement, in JSON.
"""

import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.gpu_use import gpu_memory, gpu_names
from models.engines import Precision, devices, jax_device, tensorflow_device
from models.engines.device_engine import STREAMS, Device, DeviceEngine, DeviceMaskEngine
from models.inputs import network_shape, resize
from models.packages import ModelPackage, load_package
from models.upsampling import logits_to_mask

PRECISIONS = (Precision.F32, Precision.F16, Precision.BF16)

NETWORK_ALONE = "network alone"
"""The check of `resident_speed`."""

MEMORY = 3 << 30
"""Bytes of a GPU's memory that the batch which is too large may use."""

HUGE_BATCH = 512
"""Photos of a batch that does not fit into it."""

MEMORY_FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"
"""Environment variable: share of a GPU's memory that JAX may use."""

Photo = tuple[np.ndarray, tuple[int, int]]
"""Pixels at the network's size, and the height and width of the photo."""


@dataclass(frozen=True)
class Row:
    """A measurement, or why there is none.

    Attributes:
        check: what was measured.
        engine: what ran the network; empty without one.
        value: the figure; None if it could not be measured.
        unit: of the value.
        note: on the value; without a value, the reason.
    """

    check: str
    engine: str
    value: float | None
    unit: str
    note: str = ""


def main(kind: str, name: str, model: str, photos: str, seconds: str) -> None:
    logging.basicConfig(level=logging.WARNING)
    package = load_package(model)
    if kind == "memory":
        rows = memory(name, package)
    else:
        rows = speeds(name, package, Path(photos), float(seconds))
    for row in rows:
        print(json.dumps(asdict(row)), flush=True)


def devices_of(name: str) -> tuple[Device, Device, Precision]:
    """The device that an engine selects, its CPU, and the automatic precision on the first."""
    if name == devices.JAX:
        jax_device.choose_backend()
        device = jax_device.default_device()
        return device, jax_device.cpu(), devices.keras_choice(Precision.AUTO, device.capability)
    gpu = tensorflow_device.find_gpu()
    cpu = tensorflow_device.TensorFlowDevice("/device:CPU:0", jit_compile=False)
    capability = tensorflow_device.capability() if gpu else (0, 0)
    return gpu or cpu, cpu, devices.keras_choice(Precision.AUTO, capability)


def speeds(name: str, package: ModelPackage, folder: Path, seconds: float) -> Iterator[Row]:
    """Agreement with the CPU, and speeds from photos in memory to masks in memory."""
    device, cpu, precision = devices_of(name)
    row = partial(Row, engine=name)
    photos = list(_photos(package, folder))
    reference = DeviceEngine(package, cpu, Precision.F32, 1)
    masks = [logits_to_mask(reference.predict(image[None])[0], *size)[0] for image, size in photos]
    for tried in PRECISIONS:
        engine = DeviceMaskEngine(package, device, tried, 1)
        found = [engine.predict_masks(image[None], [size])[0] for image, size in photos]
        share = [b is not None and np.mean(a == b[0]) for a, b in zip(masks, found, strict=True)]
        equal = float(np.mean(share))
        yield row(f"pixels as in f32 on the CPU, in {tried.value}", value=equal, unit="share")
    start = time.perf_counter()
    engine = DeviceMaskEngine(package, device, precision)
    engine.warm_up()
    seconds_to_start = time.perf_counter() - start
    chosen = f"{device.name}, {precision.value}, batches of {engine.batch_size}"
    yield row("start of the engine", value=seconds_to_start, unit="s", note=chosen)
    of_streams = {}
    for streams in (1, STREAMS):
        of_streams[streams] = speed(engine, photos[0], streams, seconds)
        check = f"from photos in memory to masks, streams: {streams}"
        yield row(check, value=of_streams[streams], unit="images/s")
    yield row("two streams to one", value=of_streams[STREAMS] / of_streams[1], unit="ratio")
    alone = resident_speed(package, device, precision, engine.batch_size, seconds)
    yield row(NETWORK_ALONE, value=alone, unit="images/s", note="data on the device")
    yield row("masks to network alone", value=of_streams[STREAMS] / alone, unit="ratio")


def speed(engine: DeviceMaskEngine, photo: Photo, streams: int, seconds: float) -> float:
    """Measure photos per second of full batches in so many threads."""
    image, size = photo
    images = np.repeat(image[None], engine.batch_size, axis=0)

    def work(end: float) -> int:
        done = 0
        while time.perf_counter() < end or not done:
            engine.predict_masks(images, [size] * len(images))
            done += len(images)
        return done

    engine.predict_masks(images, [size] * len(images))
    start = time.perf_counter()
    with ThreadPoolExecutor(streams) as pool:
        done = sum(pool.map(work, [start + seconds] * streams))
    return done / (time.perf_counter() - start)


def resident_speed(
    package: ModelPackage, device: Device, precision: Precision, batch: int, seconds: float
) -> float:
    """Measure photos per second of the network alone, on batches in the device's memory.

    Results stay on the device.
    """
    import keras
    from keras import ops

    shape = (batch, package.input_height, package.input_width, 3)
    with keras.device(device.name), devices.keras_precision(devices.POLICIES[precision]):
        network = package.build_network()
        weights = [
            [ops.convert_to_tensor(variable) for variable in variables]
            for variables in (network.trainable_variables, network.non_trainable_variables)
        ]
        images = ops.cast(np.random.default_rng(0).random(shape), network.compute_dtype)
        program = device.compile(
            lambda weights, images: network.stateless_call(*weights, images, training=False)[0],
            weights, images,
        )  # fmt: skip

        def run(calls: int) -> float:
            start = time.perf_counter()
            for _ in range(calls):
                answer = program(weights, images)
            ops.convert_to_numpy(answer)  # Calls run in order; this waits for the last one.
            return time.perf_counter() - start

        run(1)
        calls = max(1, round(seconds / run(1) / 3))
        return calls * batch / statistics.median(run(calls) for _ in range(3))


def memory(name: str, package: ModelPackage) -> Iterator[Row]:
    """Whether a batch that does not fit is halved until it does."""
    row = partial(Row, f"batch that fits, of {HUGE_BATCH} photos", name)
    device = _limited_gpu(name)
    if device is None:
        yield row(None, "photos", "no GPU, and what a CPU may take cannot be limited")
        return
    engine = DeviceMaskEngine(package, device, Precision.F32, HUGE_BATCH)
    images = np.zeros((HUGE_BATCH, *package.nominal_shape, 3), np.uint8)
    masks = engine.predict_masks(images, [(64, 64)] * HUGE_BATCH)
    if None in masks or len(masks) != HUGE_BATCH:
        yield row(None, "photos", "masks are missing")
    elif engine.batch_size == HUGE_BATCH:
        yield row(None, "photos", f"all fitted into {MEMORY >> 30} GiB")
    else:
        yield row(engine.batch_size, "photos", f"in {MEMORY >> 30} GiB; all masks are there")


def _limited_gpu(name: str) -> Device | None:
    """The GPU of an engine with so little memory as `MEMORY`; None without a GPU."""
    if not gpu_names():
        return None
    if name == devices.JAX:
        os.environ[MEMORY_FRACTION] = f"{MEMORY / gpu_memory():.4f}"
        device = jax_device.default_device()
        jax_device.choose_backend()
        return None if device.is_cpu else device
    devices.import_tensorflow()
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return None
    limit = tf.config.LogicalDeviceConfiguration(memory_limit=MEMORY >> 20)
    tf.config.set_logical_device_configuration(gpus[0], [limit])
    return tensorflow_device.TensorFlowDevice("/device:GPU:0")


def _photos(package: ModelPackage, folder: Path) -> Iterator[Photo]:
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            shape = network_shape(*image.size, package.input_width, package.input_height)
            yield resize(image.convert("RGB"), shape), (image.height, image.width)


if __name__ == "__main__":
    main(*sys.argv[1:])
