"""Measure the continuity of panorama masks at the seam, by the width of the margin.

The column *seam* is the share of rows whose left and right edges have different classes. Ideally it
equals *there, turned*: the same share at the same place in the mask of the photo turned by 180
degrees, where it is in the middle. *Other columns* is that of all adjacent columns. *Equal* is the
share of pixels near the seam that have the same class in both masks.

    python benchmarks/seam.py [--precision P] PANORAMA...

segments equirectangular photos of 2:1 with the default model, and prints a table.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from models import panoramas
from models.engines import Engine, EngineOptions, Precision, load_engine
from models.inputs import network_shape, resize_pixels
from models.packages import load_package
from models.upsampling import logits_to_mask

SHARES = (0, 1 / 16, 1 / 8, 1 / 4, 1 / 3, 1 / 2)
"""Margins on each side, as fractions of the network's input width."""

NEAR = 0.05
"""Columns near the seam, on each side, as a fraction of the width."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", type=Precision, default=Precision.AUTO)
    parser.add_argument("panoramas", nargs="+", type=Path)
    arguments = parser.parse_args()
    package = load_package("default")
    engine = load_engine(package, EngineOptions(precision=arguments.precision))
    photos = [np.asarray(Image.open(path).convert("RGB")) for path in arguments.panoramas]
    print(f"{package.name} in {engine.precision.value}")
    shapes = [
        network_shape(photo.shape[1], photo.shape[0], package.input_width, package.input_height)
        for photo in photos
    ]
    print("| margin | seam | there, turned | other columns | equal |\n|---:|---:|---:|---:|---:|")
    for share in SHARES:
        seams, insides, others, equal = [], [], [], []
        for photo, shape in zip(photos, shapes, strict=True):
            margin = round(share * shape[1] / panoramas.SHAPE_MULTIPLE) * panoramas.SHAPE_MULTIPLE
            half, near = photo.shape[1] // 2, int(photo.shape[1] * NEAR)
            mask = segment(engine, photo, shape, margin)
            turned = segment(engine, np.roll(photo, half, axis=1), shape, margin)
            beside = np.roll(mask, near, axis=1)[:, : 2 * near]
            again = turned[:, half - near : half + near]
            seams.append(np.mean(mask[:, 0] != mask[:, -1]))
            insides.append(np.mean(turned[:, half] != turned[:, half - 1]))
            others.append(np.mean(mask[:, 1:] != mask[:, :-1]))
            equal.append(np.mean(beside == again))
        cells = " | ".join(f"{np.mean(found):.2%}" for found in (seams, insides, others, equal))
        print(f"| {share:.3g} | {cells} |")


def segment(engine: Engine, photo: np.ndarray, shape: tuple[int, int], margin: int) -> np.ndarray:
    """Segment a photo with a margin of `margin` columns at the network's input."""
    pixels = panoramas.with_margin(resize_pixels(photo, shape), margin)
    (logits,) = engine.predict(pixels[None])
    columns = margin * logits.shape[1] // pixels.shape[1]
    mask, _ = logits_to_mask(logits, photo.shape[0], photo.shape[1], columns)
    return mask


if __name__ == "__main__":
    main()
