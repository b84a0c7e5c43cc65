"""The stages of a run, executed sequentially, to measure the CPU time of each."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.packages import load_package
from models.segmenter import Segmenter
from transforms import storage
from transforms.output.columns import DECODE, ENCODE, INFER, READ, UPSAMPLE, WRITE
from transforms.photos.decoding import DEFAULT_MAX_PIXELS, decode_photo
from transforms.photos.mask_files import encode_mask


def run(archive: Path, output: Path, model: str) -> dict[str, dict[str, float]]:
    """Measure the CPU milliseconds per photo of each stage, without the first batch (warm-up)."""
    package = load_package(model)
    segmenter = Segmenter.load(package)
    palette = package.classes.palette()
    seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        seconds[name] += time.process_time() - start

    paths = sorted(archive.iterdir())
    size = segmenter.batch_size
    for first in range(0, len(paths), size):
        batch = paths[first : first + size]
        with stage(READ):
            data = [storage.read(str(path)) for path in batch]
        with stage(DECODE):
            photos = [decode_photo(each, segmenter.shape_for, DEFAULT_MAX_PIXELS) for each in data]
            prepared = list(map(segmenter.prepare, photos))
        with stage(INFER):
            answers = segmenter.infer(prepared)
        with stage(UPSAMPLE):
            masks = [segmenter.finish(answer).mask for answer in answers]
        with stage(ENCODE):
            files = [encode_mask(mask, palette) for mask in masks]
        with stage(WRITE):
            for path, file in zip(batch, files, strict=True):
                storage.write(str(output), f"masks/{path.name}.png", file)
        if first == 0:
            seconds.clear()
    return {"cpu_ms": {name: s * 1e3 / (len(paths) - size) for name, s in seconds.items()}}
