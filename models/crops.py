"""Random crops of labelled photos, the batches of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from PIL import Image, ImageEnhance

from models.classes import IGNORE
from models.distillation import Teacher
from models.inputs import normalise
from models.labelled_photos import LabelledPhotos, read_sample

PADDING_COLOR = (124, 116, 104)
"""About the mean of natural photos, so that padding is near zero once normalised."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training sample; ranges are (smallest, largest).

    Attributes:
        frame: (height, width) a photo is resized to before the random scale.
        crop: (height, width) of the result, each a multiple of 32.
        scales: random scale, log-uniform.
        exposures: factor on all values, log-uniform.
        gammas: exponent of the values 0..1, log-uniform.
        saturations: factor on the distance from grey, uniform.
        cast: largest relative change of a colour channel.
        noise: largest standard deviation of Gaussian noise, on values 0..1.
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
    """Resize the sample to `frame` times a random scale and cut out a random crop.

    A scaled frame smaller than the crop is placed at random on grey padding without a class.
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
    """Mirror a sample left to right, with probability 1/2."""
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

    With a teacher, labels are those of `Teacher.soften`, float16 (N, h, w, C).

    A crop depends only on the seed, the epoch and its position in the epoch, so a resumed training
    gets the same crops as an uninterrupted one. Samples that do not fill a last batch are left out;
    they are different ones in each epoch.
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
