"""A typical PyTorch loop of a notebook: DataLoader, eager network, masks by Pillow.

The network is the same, run by Keras on its torch backend.
"""

import os

os.environ["KERAS_BACKEND"] = "torch"

import csv
from pathlib import Path

import keras  # noqa: F401 - Its import is not timed.
import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from benchmarks.arms import MASKS
from benchmarks.arms.plain import BATCH_SIZE, Plain
from models.packages import load_package


class Photos(Dataset):
    def __init__(self, archive: Path, plain: Plain):
        self._paths = sorted(map(str, archive.iterdir()))
        self._plain = plain

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[str, np.ndarray, int, int]:
        path = self._paths[index]
        return path, *self._plain.read(Path(path))


def run(archive: Path, output: Path, model: str) -> None:
    plain = Plain(load_package(model), output / MASKS)
    plain.masks.mkdir(parents=True)
    network = plain.package.build_network().eval()
    loader = DataLoader(Photos(archive, plain), BATCH_SIZE, num_workers=os.cpu_count() or 1)
    with open(output / "counts.csv", "w", newline="") as file, torch.inference_mode():
        rows = csv.writer(file)
        for paths, photos, heights, widths in loader:
            logits = network(photos, training=False).permute(0, 3, 1, 2)
            size = int(heights[0]), int(widths[0])
            logits = functional.interpolate(logits, size, mode="bilinear", align_corners=False)
            for path, mask in zip(paths, logits.argmax(1).to(torch.uint8).numpy(), strict=True):
                plain.encode(mask, Path(plain.path(path)))
                for value, pixels in zip(*np.unique(mask, return_counts=True), strict=True):
                    rows.writerow([path, value, pixels])
