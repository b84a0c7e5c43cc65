"""Export the shipped models to formats of other tools, import them again, and compare.

    python benchmarks/imports.py CAMVID OUTPUT

prints a table, in single precision over CamVid's val split: pixels of the same class as in the
masks of the model itself, mIoU, and photos per second from file to mask. OUTPUT gets the exported
and the imported models.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.engines import EngineOptions, Precision
from models.evaluation import Counts, Metrics, count_pixels
from models.labelled_photos import list_split, read_photo
from models.labels import read_label
from models.packages import ModelPackage, load_package, shipped_names
from models.segmenter import Segmenter

if TYPE_CHECKING:
    import keras

EXPORTS = {
    "onnx": "network.onnx",
    "tf_saved_model": "network",
    "litert": "network.tflite",
    "openvino": "network.xml",
}
"""Name of the exported network by Keras's name of the format."""

SPLIT = "val"


def main(camvid: str, output: str) -> None:
    print("| model | imported from | equal pixels | mIoU | images/s |\n|---|---|---|---|---|")
    for name in shipped_names():
        package = load_package(name)
        photos = list_split(camvid, SPLIT, len(package.classes))
        labels = [read_label(path, photos.classes) for path in photos.labels]
        own: list[np.ndarray] = []
        for form, variant in variants_of(package, Path(output, name)):
            began = time.perf_counter()
            masks = masks_of(variant, photos.images)
            speed = len(masks) / (time.perf_counter() - began)
            own = own or masks
            equal, miou = equal_pixels(masks, own), metrics_of(package, labels, masks).miou
            print(f"| {name} | {form} | {equal:.4%} | {miou:.4f} | {speed:.1f} |", flush=True)


def variants_of(package: ModelPackage, output: Path) -> Iterator[tuple[str, ModelPackage]]:
    """Yield a model, and what is imported of its exports to each format, with a word each."""
    yield "not imported", package
    network = package.build_network()
    for form in EXPORTS:
        source = export(network, form, output / form)
        command = [sys.executable, "-m", "pipeline", *import_of(package, source)]
        subprocess.run(command, check=True, capture_output=True)
        yield form, load_package(source.parent / "model")


def export(network: "keras.Model", form: str, folder: Path) -> Path:
    """Export a network that takes photos of any size, and return the file or folder made."""
    folder.mkdir(parents=True, exist_ok=True)
    network(np.zeros((1, 64, 64, 3), np.float32))
    exported = folder / EXPORTS[form]
    network.export(str(exported), format=form, verbose=False)
    return exported


def import_of(package: ModelPackage, source: Path) -> list[str]:
    """Arguments of the command that imports an exported network to `model` beside it."""
    options = {
        "--output": source.parent / "model",
        "--classes": "camvid",
        "--input-size": f"{package.input_width}x{package.input_height}",
        "--mean": ",".join(map(str, package.mean)),
        "--std": ",".join(map(str, package.std)),
    }
    return ["import", str(source), *(str(word) for option in options.items() for word in option)]


def masks_of(package: ModelPackage, photos: Sequence[Path]) -> list[np.ndarray]:
    """Masks of photos in single precision."""
    segmenter = Segmenter.load(package, EngineOptions(precision=Precision.F32))
    return [segmenter.segment(read_photo(path)).mask for path in photos]


def equal_pixels(masks: list[np.ndarray], others: list[np.ndarray]) -> float:
    """Share of pixels that have the same class in both."""
    pairs = zip(masks, others, strict=True)
    return float(np.mean(np.concatenate([(one == other).ravel() for one, other in pairs])))


def metrics_of(package: ModelPackage, labels: list[np.ndarray], masks: list[np.ndarray]) -> Metrics:
    """Quality of masks."""
    classes = len(package.classes)
    counts = [count_pixels(*pair, classes) for pair in zip(labels, masks, strict=True)]
    return Metrics.of(package.classes, sum(counts, Counts.nothing(classes)))


if __name__ == "__main__":
    main(*sys.argv[1:])
