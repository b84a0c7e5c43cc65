"""Speed of decoding JPEGs: on this machine's cores as citymask does, and on a GPU where at hand."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.gpu_measures import Row
from models.inputs import network_shape
from models.packages import load_package

BATCH = 32
"""Files that a GPU decodes at once."""

ON_GPU = "full size, into the GPU's memory"

Decode = Callable[[list[bytes]], Any]


def rows(files: Sequence[Path], model: str, seconds: float) -> Iterator[Row]:
    """Yield photos per second of each decoder, or why it does not run here."""
    content = [path.read_bytes() for path in files]
    batch = [content[number % len(content)] for number in range(BATCH)]
    for name, module, make, note in (
        ("on the CPU", "simplejpeg", partial(_on_cpu, model), "all cores, scaled as in a run"),
        ("by nvImageCodec", "nvidia.nvimgcodec", _by_nvimgcodec, ON_GPU),
        ("by nvJPEG in torchvision", "torchvision", _by_torchvision, ON_GPU),
        ("by DALI", "nvidia.dali", _by_dali, ON_GPU),
    ):
        row = partial(Row, f"JPEG decoding {name}", "")
        if not _is_installed(module):
            yield row(None, "images/s", f"not installed: {module}")
            continue
        try:
            yield row(_speed(make(), batch, seconds), "images/s", note)
        except Exception as error:  # Libraries of others, each with errors of its own.
            reason = next(iter(str(error).splitlines()), "no message")
            yield row(None, "images/s", f"{type(error).__name__}: {reason}")


def _speed(decode: Decode, batch: list[bytes], seconds: float) -> float:
    decode(batch)
    start, done = time.perf_counter(), 0
    while not done or time.perf_counter() - start < seconds:
        decode(batch)
        done += len(batch)
    return done / (time.perf_counter() - start)


def _on_cpu(model: str) -> Decode:
    from models.engines.devices import cores
    from transforms.photos.decoding import DEFAULT_MAX_PIXELS, decode_photo

    package = load_package(model)
    shape_for = partial(
        network_shape, input_width=package.input_width, input_height=package.input_height
    )
    pool = ThreadPoolExecutor(cores())
    return lambda files: list(
        pool.map(lambda file: decode_photo(file, shape_for, DEFAULT_MAX_PIXELS), files)
    )


def _by_nvimgcodec() -> Decode:
    from nvidia import nvimgcodec

    return nvimgcodec.Decoder().decode


def _by_torchvision() -> Decode:
    import torch
    from torchvision.io import decode_jpeg

    def decode(files: list[bytes]) -> None:
        decode_jpeg(
            [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files], device="cuda"
        )
        torch.cuda.synchronize()

    return decode


def _by_dali() -> Decode:
    import numpy as np
    from nvidia.dali import fn, pipeline_def

    given: list[list[np.ndarray]] = []

    @pipeline_def(batch_size=BATCH, num_threads=2, device_id=0, prefetch_queue_depth=1)
    def graph():
        return fn.decoders.image(fn.external_source(lambda: given[0]), device="mixed")

    pipeline = graph()

    def decode(files: list[bytes]) -> None:
        given[:] = [[np.frombuffer(file, np.uint8) for file in files]]
        pipeline.run()

    return decode


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # The package that holds it is missing.
        return False
