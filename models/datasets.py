"""Labelled photos in the CamVid folder layout, and the random crops a network is trained on.

`<split>/NAME.png` is a photo and `<split>annot/NAME.png` its label: an image of one channel whose
values are class ids. Two values mark pixels that belong to no class: `IGNORE` (255) and, as CamVid
has it, the value right after the last class id ("void").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageEnhance

from models.classes import IGNORE
from models.distillation import Teacher
from models.inputs import normalise
from models.labels import LABEL_FOLDER_ENDING, LABEL_SUFFIX, read_label

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
PADDING_COLOR = (124, 116, 104)
"""About the mean of natural photos: near zero once normalised."""


@dataclass(frozen=True)
class LabelledPhotos:
    """The photos of one split and their labels, in the order of their names.

    Attributes:
        images: paths of the photos.
        labels: paths of the index masks, one for each photo.
        classes: number of classes; label values are 0..classes, or `IGNORE`.
    """

    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    classes: int

    def __len__(self) -> int:
        return len(self.images)


def list_split(data_dir: str | Path, split: str, classes: int) -> LabelledPhotos:
    """List the photos of `split` in the folder `data_dir`; files are not opened.

    Raises ValueError where the split holds no photo or a photo has no label.
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
    return LabelledPhotos(images, labels, classes)


def read_sample(photos: LabelledPhotos, index: int) -> tuple[Image.Image, np.ndarray]:
    """Read a photo as RGB and its label as uint8 (H, W) of class ids and `IGNORE`.

    Raises ValueError where the photo is damaged, the two differ in size, or the label is no index
    mask or holds a value outside the class table.
    """
    image_path, label_path = photos.images[index], photos.labels[index]
    try:
        with Image.open(image_path) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError) as error:  # What Pillow raises on damaged files.
        raise ValueError(
            f"{image_path}: cannot be read as an image ({error}). Replace it, or move it and its "
            "label away"
        ) from error
    label = read_label(label_path, photos.classes)
    if label.shape != (image.height, image.width):
        raise ValueError(
            f"{label_path}: is {label.shape[1]}x{label.shape[0]}, but {image_path} is "
            f"{image.width}x{image.height}. Resize the label with nearest-neighbour sampling"
        )
    return image, label


def count_classes(photos: LabelledPhotos) -> np.ndarray:
    """Count the pixels of each class: int64 (classes,). Reads and so checks every sample."""
    counts = np.zeros(IGNORE + 1, np.int64)
    for index in range(len(photos)):
        _, label = read_sample(photos, index)
        counts += np.bincount(label.ravel(), minlength=counts.size)
    return counts[: photos.classes]


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a training sample; every range is (smallest, largest).

    Attributes:
        frame: (height, width) a photo is resized to before the random scale.
        crop: (height, width) of the result, each a multiple of 32.
        scales: random scale, drawn uniformly in the logarithm.
        exposures: factor on all values, drawn uniformly in the logarithm: dusk to glare.
        gammas: exponent of the values 0..1, drawn uniformly in the logarithm.
        saturations: factor on the distance from grey.
        cast: largest change of one colour channel against the others, as a share.
        noise: largest standard deviation of Gaussian noise, of values 0..1.
    """

    frame: tuple[int, int]
    crop: tuple[int, int]
    scales: tuple[float, float] = (0.6, 1.8)
    exposures: tuple[float, float] = (0.4, 1.4)
    gammas: tuple[float, float] = (0.7, 1.4)
    saturations: tuple[float, float] = (0.5, 1.5)
    cast: float = 0.08
    noise: float = 0.03


def augment(
    image: Image.Image, label: np.ndarray, settings: Augmentation, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Scale, crop, flip and recolour a sample: uint8 (h, w, 3) and uint8 (h, w)."""
    pixels, label = random_scale_and_crop(image, label, settings, random)
    pixels, label = random_flip(pixels, label, random)
    return random_color(pixels, settings, random), label


def random_scale_and_crop(
    image: Image.Image, label: np.ndarray, settings: Augmentation, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Resize the sample to `frame` times a random scale and cut a random crop out of it.

    A frame smaller than the crop is placed at random on a grey ground that has no class.
    """
    scale = np.exp(random.uniform(*np.log(settings.scales)))
    spans, offsets, boxes = [], [], []
    for crop, frame, extent in zip(settings.crop, settings.frame, label.shape, strict=True):
        scaled = max(1, round(frame * scale))
        span = min(crop, scaled)
        start = random.integers(0, scaled - span, endpoint=True)
        spans.append(span)
        offsets.append(int(random.integers(0, crop - span, endpoint=True)))
        boxes.append((start * extent / scaled, (start + span) * extent / scaled))
    (height, width), (top, left) = spans, offsets
    box = (boxes[1][0], boxes[0][0], boxes[1][1], boxes[0][1])
    pixels = np.full((*settings.crop, 3), PADDING_COLOR, np.uint8)
    ids = np.full(settings.crop, IGNORE, np.uint8)
    area = np.s_[top : top + height, left : left + width]
    size = (width, height)
    pixels[area] = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box))
    ids[area] = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST, box))
    return pixels, ids


def random_flip(
    pixels: np.ndarray, label: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mirror every second sample left to right."""
    if random.random() < 0.5:
        return pixels[:, ::-1], label[:, ::-1]
    return pixels, label


def random_color(
    pixels: np.ndarray, settings: Augmentation, random: np.random.Generator
) -> np.ndarray:
    """Change exposure, contrast, saturation and white balance, and add noise: uint8 (h, w, 3)."""
    exposure = np.exp(random.uniform(*np.log(settings.exposures)))
    gamma = np.exp(random.uniform(*np.log(settings.gammas)))
    gains = exposure * (1 + random.uniform(-settings.cast, settings.cast, 3))
    curve = np.linspace(0, 1, 256) ** gamma
    table = np.clip(255 * np.outer(gains, curve), 0, 255).round().astype(np.uint8)
    image = Image.fromarray(pixels).point(table.ravel().tolist())
    image = ImageEnhance.Color(image).enhance(random.uniform(*settings.saturations))
    sigma = 255 * random.uniform(0, settings.noise)
    grain = random.standard_normal(pixels.shape, np.float32) * np.float32(sigma)
    return np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)


class TrainingBatches(keras.utils.PyDataset):
    """Shuffled batches of augmented crops: float32 (N, h, w, 3) and uint8 (N, h, w).

    With a teacher the labels come as its `Teacher.soften` has them, float16 (N, h, w, C).

    Every crop depends only on the seed, the epoch and its place in the epoch, so a resumed training
    sees what an uninterrupted one would have. Samples that do not fill a last batch are left out;
    the shuffling makes it others in each epoch.
    """

    def __init__(
        self,
        photos: LabelledPhotos,
        augmentation: Augmentation,
        *,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        first_epoch: int = 0,
        teacher: Teacher | None = None,
    ):
        super().__init__(workers=2, max_queue_size=4)
        self.photos = photos
        self.augmentation = augmentation
        self.batch_size = min(batch_size, len(photos))
        self.mean, self.std = mean, std
        self.seed, self.epoch = seed, first_epoch
        self.teacher = teacher

    def __len__(self) -> int:
        return len(self.photos) // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.photos))
        start = index * self.batch_size
        crops, labels = [], []
        for place in range(start, start + self.batch_size):
            random = np.random.default_rng((self.seed, self.epoch, place))
            image, label = read_sample(self.photos, order[place])
            pixels, label = augment(image, label, self.augmentation, random)
            crops.append(pixels)
            labels.append(label)
        images, targets = np.stack(crops), np.stack(labels)
        if self.teacher is not None:
            targets = self.teacher.soften(images, targets)
        return normalise(images, self.mean, self.std), targets

    def on_epoch_end(self) -> None:
        self.epoch += 1
