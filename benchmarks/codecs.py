"""Measure decoding of photos, encoding of masks, and the effect of scaled decoding on masks.

Photos are resized to 2048x1024 pixels, and the masks are the model's masks of them. Times are
medians over all photos, in milliseconds per photo, with one thread and with one per core; the
variants take turns. --camvid adds the mIoU of a labelled split whose photos are saved as JPEGs of
several sizes: decoded as in the pipeline, and decoded in full and resized by Pillow.

    python benchmarks/codecs.py [--model NAME_OR_PATH] [--photos DIR] [--camvid DIR]
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.engines.devices import cores
from models.evaluation import Counts, Metrics, count_pixels
from models.inputs import resize
from models.labelled_photos import list_split
from models.packages import ModelPackage, load_package
from models.segmenter import NetworkInput, Segmenter
from models.speed import machine
from transforms.photos.decoding import DEFAULT_MAX_PIXELS, decode_full, decode_photo
from transforms.photos.mask_files import encode_mask

ROOT = Path(__file__).resolve().parents[1]
SIZE = (2048, 1024)
QUALITY = 90
REPEATS = 5
RLE = 3
SPLIT = "val"
SCALES = {"1/2": (1.0, 0.42), "1/4": (4.3, 1.0)}
"""Factors on the photo's size and on the network's nominal input size, by the scale at which the
photo's JPEG is then decoded."""

Shape = tuple[int, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default", help="name or path of a model")
    parser.add_argument("--photos", type=Path, default=ROOT / "demo" / "photos")
    parser.add_argument("--camvid", type=Path, help="labelled photos in the CamVid layout")
    arguments = parser.parse_args()
    package = load_package(arguments.model)
    segmenter = Segmenter.load(package)
    images = [
        Image.open(path).convert("RGB").resize(SIZE, reducing_gap=2.0)
        for path in sorted(arguments.photos.rglob("*.jp*g"))
    ]
    if not images:
        sys.exit(f"{arguments.photos}: no JPEG; give a folder with --photos")
    shape = segmenter.shape_for(*SIZE)
    jpegs = [jpeg(image) for image in images]
    print(f"{len(jpegs)} photos of {SIZE[0]}x{SIZE[1]} for {package.name}; {machine()}")
    decoders = {
        "as the pipeline does": partial(fast, shape=shape),
        "Pillow, scaled while decoding": partial(by_pillow, shape=shape),
        "Pillow, in full and resized": partial(by_pillow, shape=shape, scaled=False),
        "in full, as for overlays": partial(decode_full, max_pixels=DEFAULT_MAX_PIXELS),
        "in full, Pillow": lambda data: Image.open(BytesIO(data)).convert("RGB"),
    }
    print_times("decoding", decoders, jpegs)
    masks = [segmenter.segment_input(NetworkInput(fast(data, shape), *SIZE)).mask for data in jpegs]
    encoders: dict[str, Callable] = {
        "as the pipeline does": partial(encode_mask, palette=package.classes.palette())
    }
    for level, strategy in ((1, RLE), (1, 0), (3, 0), (6, 0), (9, 0)):
        name = f"Pillow, level {level}{', run lengths' if strategy == RLE else ''}"
        encoders[name] = partial(
            png, palette=package.classes.palette(), level=level, strategy=strategy
        )
    print_times("mask as PNG", encoders, masks, sized=True)
    if arguments.camvid:
        print(f"\n| JPEGs of {arguments.camvid} scaled | mIoU, scaled | mIoU, in full | equal |")
        print("|---|---|---|---|")
        for scale, (enlarged, share) in SCALES.items():
            scaled, full, equal = compare(package, segmenter, arguments.camvid, enlarged, share)
            print(f"| {scale} | {scaled:.4f} | {full:.4f} | {equal:.2%} |", flush=True)


def jpeg(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def png(mask: np.ndarray, palette: bytes, level: int, strategy: int) -> bytes:
    image, buffer = Image.fromarray(mask), BytesIO()
    image.putpalette(palette)
    image.save(buffer, "PNG", compress_level=level, compress_type=strategy)
    return buffer.getvalue()


def fast(data: bytes, shape: Shape) -> np.ndarray:
    return decode_photo(data, lambda width, height: shape, DEFAULT_MAX_PIXELS).pixels


def by_pillow(data: bytes, shape: Shape, scaled: bool = True) -> np.ndarray:
    with Image.open(BytesIO(data)) as image:
        if scaled:
            image.draft("RGB", shape[::-1])
        return resize(image.convert("RGB"), shape)


def print_times(
    title: str, ways: dict[str, Callable[[Any], Any]], items: Sequence[Any], sized: bool = False
) -> None:
    """Print a table of the milliseconds and, if `sized`, the result sizes of each variant."""
    alone: dict[str, list[float]] = {way: [] for way in ways}
    together: dict[str, list[float]] = {way: [] for way in ways}
    with ThreadPoolExecutor(cores()) as pool:
        for way, call in [*ways.items()] * REPEATS:
            for item in items:
                start = time.perf_counter()
                call(item)
                alone[way].append(time.perf_counter() - start)
            start = time.perf_counter()
            list(pool.map(call, [*items] * cores()))
            together[way].append((time.perf_counter() - start) / (len(items) * cores()))
    print(f"\n| {title} | ms, 1 thread | ms, {cores()} threads |{' kB |' if sized else ''}")
    print("|---|---|---|" + "---|" * sized)
    for way, call in ways.items():
        times = f"{statistics.median(alone[way]) * 1e3:.1f} | "
        times += f"{statistics.median(together[way]) * 1e3:.1f} |"
        size = f" {np.mean([len(call(item)) for item in items]) / 1e3:.1f} |" if sized else ""
        print(f"| {way} | {times}{size}", flush=True)


def compare(
    package: ModelPackage, segmenter: Segmenter, camvid: Path, enlarged: float, share: float
) -> tuple[float, float, float]:
    """Return mIoU with and without scaled decoding, and the share of equal pixels."""
    classes = package.classes
    photos = list_split(camvid, SPLIT, len(classes))
    counts, equal = [Counts.nothing(len(classes))] * 2, []
    for index in range(len(photos)):
        image, label = photos.read_sample(index)
        size = (round(image.width * enlarged), round(image.height * enlarged))
        width, height = round(package.input_width * share), round(package.input_height * share)
        shape = replace(package.input_size, width=width, height=height).photo_shape(*size)
        data = jpeg(image.resize(size, Image.Resampling.LANCZOS))
        inputs = fast(data, shape), by_pillow(data, shape, scaled=False)
        masks = [
            segmenter.segment_input(NetworkInput(pixels, *label.shape[::-1])).mask
            for pixels in inputs
        ]
        counts = [
            count + count_pixels(label, mask, len(classes))
            for count, mask in zip(counts, masks, strict=True)
        ]
        equal.append(np.mean(masks[0] == masks[1]))
    scaled, full = (Metrics.of(classes, count).miou for count in counts)
    return scaled, full, float(np.mean(equal))


if __name__ == "__main__":
    main()
