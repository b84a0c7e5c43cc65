"""Shared by the peers: Pillow for photos and masks, NumPy for the rest."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from models.inputs import network_shape, normalise
from models.packages import ModelPackage

BATCH_SIZE = 4


@dataclass(frozen=True)
class Plain:
    """Photos and masks of a model.

    Attributes:
        package: the model.
        masks: the folder for masks.
    """

    package: ModelPackage
    masks: Path

    def read(self, file: BinaryIO | Path) -> tuple[np.ndarray, int, int]:
        """Read a photo: float32 network input `(h, w, 3)`, then the photo's height and width."""
        package = self.package
        with Image.open(file) as image:
            width, height = image.size
            rows, columns = network_shape(width, height, package.input_width, package.input_height)
            resized = image.convert("RGB").resize((columns, rows), Image.Resampling.BILINEAR)
        return normalise(np.asarray(resized), package.mean, package.std), height, width

    def encode(self, mask: np.ndarray, file: BinaryIO | Path) -> None:
        """Write a mask of class ids, uint8 `(height, width)`, as a palette PNG."""
        image = Image.fromarray(mask)
        image.putpalette(self.package.classes.palette())
        image.save(file, "PNG")

    def path(self, photo: str) -> str:
        """Path of a photo's mask."""
        return str(self.masks / f"{Path(photo).name}.png")
