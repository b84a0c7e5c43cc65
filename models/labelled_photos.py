"""Labelled photos in the CamVid folder layout.

`<split>/NAME.png` is a photo and `<split>annot/NAME.png` its label: an image of one channel whose
values are class ids. Two values mark pixels without a class: `IGNORE` (255) and, as in CamVid, the
value after the last class id ("void").
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.classes import IGNORE
from models.label_mappings import LabelMapping, Target, single_targets
from models.labels import LABEL_FOLDER_ENDING, LABEL_SUFFIX, read_label

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})


@dataclass(frozen=True)
class LabelledPhotos:
    """The photos and labels of one split, sorted by name.

    Attributes:
        images: paths of the photos.
        labels: paths of the labels, one per photo.
        classes: number of classes; label values are 0..classes, or `IGNORE`.
        mapping: what label values say, if they are not class ids.
    """

    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    classes: int
    mapping: LabelMapping | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def targets(self) -> tuple[Target, ...]:
        """What labels can say of a pixel; the position is the id of the target."""
        if self.mapping is None:
            return single_targets(self.classes)
        return self.mapping.targets

    def read_label(self, index: int) -> np.ndarray:
        """Read a label: uint8 (H, W) of target ids and `IGNORE`.

        Raises:
            ValueError: no label image, or one that holds what neither classes nor mapping know.
            OSError: the file cannot be read.
        """
        path = self.labels[index]
        if self.mapping is None:
            return read_label(path, self.classes)
        try:
            return self.mapping.decode(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def read_sample(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """Read a photo as RGB and its label as `read_label` does.

        Raises:
            ValueError: see `read_label`; or the photo is damaged, or the two differ in size.
        """
        image, label = read_photo(self.images[index]), self.read_label(index)
        check_sizes(self, index, label.shape, (image.height, image.width))
        return image, label


def list_split(
    data_dir: str | Path, split: str, classes: int, mapping: LabelMapping | None = None
) -> LabelledPhotos:
    """List the photos of `split` in the folder `data_dir`; files are not opened.

    Raises:
        ValueError: the split holds no photo, or a photo has no label.
    """
    folder = Path(data_dir) / split
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: no such folder; expected {split}/NAME.png and {split}annot/NAME.png "
            f"in {data_dir}"
        )
    images = tuple(
        sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    )
    if not images:
        raise ValueError(f"{folder}: holds no photo; expected PNG or JPEG files")
    labels = tuple(
        Path(data_dir, f"{split}{LABEL_FOLDER_ENDING}", f"{image.stem}{LABEL_SUFFIX}")
        for image in images
    )
    for image, label in zip(images, labels, strict=True):
        if not label.is_file():
            raise ValueError(f"{image}: has no label; expected {label}. Add it or move the photo")
    return LabelledPhotos(images, labels, classes, mapping)


def read_photo(path: Path) -> Image.Image:
    """Read a photo as RGB; raises ValueError where it is damaged."""
    try:
        with Image.open(path) as opened:
            return opened.convert("RGB")
    except (OSError, SyntaxError) as error:  # What Pillow raises on damaged files.
        raise ValueError(
            f"{path}: cannot be read as an image ({error}). Replace it, or remove it and its label"
        ) from error


def check_sizes(
    photos: LabelledPhotos, index: int, label: tuple[int, ...], image: tuple[int, ...]
) -> None:
    """Raise ValueError where the shapes of a label and its photo, `(height, width)`, differ."""
    if label != image:
        raise ValueError(
            f"{photos.labels[index]}: is {label[1]}x{label[0]}, but {photos.images[index]} is "
            f"{image[1]}x{image[0]}. Resize the label with nearest-neighbour sampling"
        )


def count_targets(photos: LabelledPhotos) -> np.ndarray:
    """Count the pixels of each target: int64 (targets,). Reads all samples, which checks them.

    Raises:
        ValueError: see `LabelledPhotos.read_sample`.
    """
    counts = np.zeros(IGNORE + 1, np.int64)
    for index in range(len(photos)):
        _, label = photos.read_sample(index)
        counts += np.bincount(label.ravel(), minlength=counts.size)
    return counts[: len(photos.targets)]
