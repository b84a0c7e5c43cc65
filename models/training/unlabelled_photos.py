"""Photos without labels, to train on with teachers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.classes import IGNORE
from models.labelled_photos import IMAGE_SUFFIXES, read_photo


@dataclass(frozen=True)
class UnlabelledPhotos:
    """The photos below a folder, sorted by path.

    Attributes:
        images: their paths.
    """

    images: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.images)

    def read_sample(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """Read a photo as RGB, with a label of `IGNORE` alone, uint8 (H, W).

        Raises:
            ValueError: the photo is damaged.
        """
        image = read_photo(self.images[index])
        return image, np.full((image.height, image.width), IGNORE, np.uint8)


def find_photos(folder: str | Path) -> UnlabelledPhotos:
    """Find the PNG and JPEG files below a folder; the first is read, as a trial.

    Raises:
        ValueError: there is no such folder, it cannot be read, it holds no photo, or the first is
            damaged.
    """
    try:
        paths = sorted(
            path for path in Path(folder).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES
        )
        next(Path(folder).iterdir(), None)  # `rglob` is silent about what cannot be read.
    except OSError as error:
        raise ValueError(
            f"{folder}: cannot be read ({error.strerror}). Give a folder of photos"
        ) from error
    if not paths:
        raise ValueError(f"{folder}: holds no photo; expected PNG or JPEG files")
    photos = UnlabelledPhotos(tuple(paths))
    photos.read_sample(0)
    return photos
