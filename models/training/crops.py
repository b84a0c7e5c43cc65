"""Random crops of labelled photos of several data sets, the batches of a training."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from models.classes import IGNORE
from models.inputs import InputSize, normalise
from models.label_mappings import Target
from models.labelled_photos import LabelledPhotos
from models.training.distillation import Teacher, soften
from models.training.unlabelled_photos import UnlabelledPhotos

PADDING_COLOR = (124, 116, 104)
"""About the mean of natural photos, so that padding is near zero once normalised."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training sample; ranges are (smallest, largest).

    Attributes:
        size: the network's input size; a photo is resized to it before the random scale, in the
            shape that the network gets it in later.
        crop: (height, width) of the result, each a multiple of 32.
        scales: random scale, log-uniform.
        stretches: random factor on the width over the height, log-uniform.
        exposures: factor on all values, log-uniform.
        gammas: exponent of the values 0..1, log-uniform.
        saturations: factor on the distance from grey, uniform.
        cast: largest relative change of a colour channel.
        grey: probability that all channels get the values of one of them.
        noise: largest standard deviation of Gaussian noise, on values 0..1.
        blur: probability of a Gaussian blur.
        blurs: its standard deviation in pixels, uniform.
        jpeg: probability of JPEG artefacts.
        qualities: quality of the JPEG file, uniform.
    """

    size: InputSize
    crop: tuple[int, int]
    scales: tuple[float, float] = (0.5, 2.0)
    stretches: tuple[float, float] = (0.8, 1.25)
    exposures: tuple[float, float] = (0.35, 1.5)
    gammas: tuple[float, float] = (0.6, 1.6)
    saturations: tuple[float, float] = (0.3, 1.6)
    cast: float = 0.15
    grey: float = 0.05
    noise: float = 0.04
    blur: float = 0.15
    blurs: tuple[float, float] = (0.3, 1.5)
    jpeg: float = 0.15
    qualities: tuple[int, int] = (25, 85)


def random_view(
    image: Image.Image, label: np.ndarray, settings: Augmentation, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Scale, crop and flip a sample: uint8 (h, w, 3) and uint8 (h, w)."""
    return random_flip(*random_scale_and_crop(image, label, settings, random), random)


def random_look(
    pixels: np.ndarray, settings: Augmentation, random: np.random.Generator
) -> np.ndarray:
    """Recolour and degrade a photo: uint8 (h, w, 3)."""
    return random_quality(random_color(pixels, settings, random), settings, random)


def random_scale_and_crop(
    image: Image.Image, label: np.ndarray, settings: Augmentation, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Resize the sample to the input size times a random scale and cut out a random crop.

    A scaled photo smaller than the crop is placed at random on grey padding without a class.
    """
    scale = np.exp(random.uniform(*np.log(settings.scales)))
    stretch = np.exp(random.uniform(*np.log(settings.stretches)) / 2)
    spans, offsets, boxes = [], [], []
    frame = settings.size.photo_shape(image.width, image.height)
    factors = (scale / stretch, scale * stretch)
    for crop, side, factor, extent in zip(settings.crop, frame, factors, label.shape, strict=True):
        scaled = max(1, round(side * factor))
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
    if random.random() < settings.grey:
        pixels = np.repeat(pixels[..., [random.integers(3)]], 3, axis=-1)
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


def random_quality(
    pixels: np.ndarray, settings: Augmentation, random: np.random.Generator
) -> np.ndarray:
    """Blur a photo and give it JPEG artefacts, each with its probability: uint8 (h, w, 3)."""
    image = Image.fromarray(pixels)
    if random.random() < settings.blur:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(*settings.blurs)))
    if random.random() < settings.jpeg:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(random.integers(*settings.qualities)))
        image = Image.open(file)
    return np.asarray(image)


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The photos of a data set to train on.

    Attributes:
        photos: with labels or without.
        weight: how often its photos are drawn, in proportion to the other data sets' weights.
        positions: position of each of its targets among those of all data sets, uint8 (256,);
            `IGNORE` stays.
    """

    photos: LabelledPhotos | UnlabelledPhotos
    weight: float
    positions: np.ndarray

    def read_sample(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """A photo and its label, uint8 (H, W), in the targets of all data sets."""
        image, label = self.photos.read_sample(index)
        return image, self.positions[label]


def draw_epoch(
    sizes: Sequence[int], weights: Sequence[float], random: np.random.Generator
) -> list[tuple[int, int]]:
    """Draw as many photos as there are: (data set, photo) in random order.

    The data sets are drawn in proportion to the weights. A data set's photos are drawn in turn, so
    none is drawn twice before all others were drawn.
    """
    ends = np.cumsum(weights) / np.sum(weights) * sum(sizes)
    counts = np.diff(np.round(ends).astype(int), prepend=0)
    drawn: list[tuple[int, int]] = []
    for which, (size, count) in enumerate(zip(sizes, counts.tolist(), strict=True)):
        rounds = [random.permutation(size) for _ in range(-(-count // size))]
        photos = [photo for order in rounds for photo in order.tolist()]
        drawn += ((which, photo) for photo in photos[:count])
    return [drawn[place] for place in random.permutation(len(drawn))]


class TrainingBatches(keras.utils.PyDataset):
    """Shuffled batches of augmented crops: float32 (N, h, w, 3) and target ids, uint8 (N, h, w).

    With teachers, labels are those of `soften`, float16 (N, h, w, targets). Teachers see the crops
    before their colours are changed.

    A crop depends only on the seed, the epoch and its position in the epoch, so a resumed training
    gets the same crops as an uninterrupted one. Samples that do not fill a last batch are left out;
    they are different ones in each epoch.
    """

    def __init__(
        self,
        sets: Sequence[TrainingSet],
        augmentation: Augmentation,
        *,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        first_epoch: int = 0,
        targets: Sequence[Target] = (),
        teachers: Sequence[Teacher] = (),
    ):
        super().__init__(workers=2, max_queue_size=4)
        self.sets = sets
        self.augmentation = augmentation
        self.sizes = [len(each.photos) for each in sets]
        self.batch_size = min(batch_size, sum(self.sizes))
        self.mean, self.std = mean, std
        self.seed, self.epoch = seed, first_epoch
        self.targets, self.teachers = targets, teachers

    def __len__(self) -> int:
        return sum(self.sizes) // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        weights = [each.weight for each in self.sets]
        order = draw_epoch(self.sizes, weights, np.random.default_rng((self.seed, self.epoch)))
        start = index * self.batch_size
        views, looks, labels = [], [], []
        for place in range(start, start + self.batch_size):
            random = np.random.default_rng((self.seed, self.epoch, place))
            which, photo = order[place]
            image, label = self.sets[which].read_sample(photo)
            view, label = random_view(image, label, self.augmentation, random)
            views.append(view)
            looks.append(random_look(view, self.augmentation, random))
            labels.append(label)
        targets = np.stack(labels)
        if self.teachers:
            targets = soften(self.teachers, np.stack(views), targets, self.targets)
        return normalise(np.stack(looks), self.mean, self.std), targets

    def on_epoch_end(self) -> None:
        self.epoch += 1
