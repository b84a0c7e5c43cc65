"""Packages whose networks are made in the test, for any backend of Keras, and what engines give."""

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from models.classes import ClassTable
from models.packages import ModelPackage
from models.upsampling import logits_to_mask

HEIGHT, WIDTH, STRIDE, CLASSES = 32, 64, 4, 3


@dataclass(frozen=True)
class MadePackage(ModelPackage):
    """A package whose network is made in the test."""

    build: Callable[[], keras.Model] = keras.Model

    def build_network(self) -> keras.Model:
        return self.build()


class Counting(keras.layers.Layer):
    """Notes the shapes it is traced for."""

    def __init__(self, shapes: list):
        super().__init__()
        self.note = shapes.append  # Keras copies lists.

    def call(self, x):
        self.note(tuple(x.shape))
        return x


def made_package(*layers: Callable[[], keras.layers.Layer], scale: float = 1.0) -> MadePackage:
    """A model of one convolution, with `layers` before it and weights that are always the same."""

    def build() -> keras.Model:
        image = x = keras.Input((None, None, 3))
        for layer in layers:
            x = layer()(x)
        convolution = keras.layers.Conv2D(CLASSES, STRIDE, STRIDE, dtype=None)
        logits = keras.layers.Activation("linear", dtype="float32")(convolution(x))
        kernel = np.random.default_rng(3).normal(0, scale, convolution.kernel.shape)
        convolution.set_weights([kernel, np.zeros(CLASSES)])
        return keras.Model(image, logits)

    return MadePackage(
        path=Path("made"),
        name="made",
        architecture="none",
        width=1.0,
        input_height=HEIGHT,
        input_width=WIDTH,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.3, 0.4),
        classes=ClassTable.of([("A", (1, 0, 0)), ("B", (2, 0, 0)), ("C", (3, 0, 0))]),
        training={},
        metrics={},
        fingerprint=uuid.uuid4().hex,
        build=build,
    )


def photos(count: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)


def warnings_in(caplog) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("models.") and record.levelno >= logging.WARNING
    ]


def assert_same_masks(found: list, logits: np.ndarray, sizes: list, differing: int) -> None:
    """Masks and counts are those of `logits_to_mask`, but for so many pixels in all of them."""
    differences = 0
    assert len(found) == len(sizes)
    for (mask, counts, *_), of_photo, size in zip(found, logits, sizes, strict=False):
        expected, _ = logits_to_mask(of_photo, *size)
        assert (mask.shape, mask.dtype, counts.dtype) == (size, np.uint8, np.int64)
        assert np.array_equal(counts, np.bincount(mask.ravel(), minlength=logits.shape[3]))
        differences += int((mask != expected).sum())
    assert differences <= differing
