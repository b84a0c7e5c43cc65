"""Calibration: what the probabilities of a network are worth, found on labelled photos.

Networks are too sure of themselves, or not sure enough. Temperature scaling divides the logits by
one number before their softmax, the one that makes the labels most likely: Guo et al., "On
Calibration of Modern Neural Networks" (ICML 2017). The class of a pixel stays what it was.

The expected calibration error is the mean distance between confidence and accuracy in bins of
confidence: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning" (AAAI
2015).

The photos should be none that the network was trained on, since it is surer of those.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from models.classes import IGNORE
from models.engines import AUTOMATIC, EngineOptions
from models.label_mappings import possible_classes
from models.labelled_photos import LabelledPhotos, read_photo
from models.packages import Calibration, ModelPackage, add_calibration
from models.segmenter import Segmenter, check_confidence
from models.upsampling import logits_at

BINS = 15
"""Bins of the expected calibration error, of equal width, as in Guo et al."""

PERCENTILE = 99
"""Percentage of the photos whose uncertainty is at most that above which photos are unlike them."""

LEAST_PHOTOS = 20
"""Fewer photos say too little of how uncertainties are spread."""

MOST_PIXELS = 4096
"""Pixels that are looked at in a photo, at most."""

MOST_LOGITS = 1 << 24
"""Logits in memory, at most: 64 MiB."""

COLDEST, HOTTEST = 0.05, 20.0
"""Between these the temperature is searched."""

T = TypeVar("T")

_GOLDEN = (math.sqrt(5) - 1) / 2


class CalibrationError(ValueError):
    """A model cannot be calibrated on these photos."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """Labelled pixels and what a network says of them.

    Attributes:
        logits: float32 of shape `(n, classes)`.
        possible: bool of the same shape: the classes that each pixel may be.
        single: int64 of shape `(n,)`: the class of a pixel whose label says one, else `IGNORE`.
    """

    logits: np.ndarray
    possible: np.ndarray
    single: np.ndarray

    @classmethod
    def of(cls, parts: list[Pixels]) -> Pixels:
        """All pixels of some photos."""
        return cls(
            np.concatenate([part.logits for part in parts]),
            np.concatenate([part.possible for part in parts]),
            np.concatenate([part.single for part in parts]),
        )


def calibrate(
    package: ModelPackage,
    photos: Sequence[LabelledPhotos],
    directory: str | Path,
    options: EngineOptions = AUTOMATIC,
) -> ModelPackage:
    """Write a package with the calibration that labelled photos give, and return it.

    Args:
        package: the model.
        photos: of one or more data sets; the model was not trained on them.
        directory: the folder of the new package; the package's own one is possible.
        options: how the network is run.

    Raises:
        CalibrationError: there are too few photos, no label says one class, or the labels do not
            go with the model.
        ValueError: the model gives no probabilities; a photo or label cannot be read.
        EngineError: the network does not run here.
        PackageError: the package is damaged.
        OSError: the new package cannot be written.
    """
    check_confidence(package)
    _check(package, photos)
    segmenter = Segmenter.load(replace(package, calibration=None), options, confidence=True)
    pixels = _look(segmenter, photos, len(package.classes))
    temperature = fit_temperature(pixels)
    calibration = Calibration(
        temperature,
        expected_calibration_error(pixels, 1.0),
        expected_calibration_error(pixels, temperature),
        unlike_above=1.0,
        made={
            "tool": f"citymask calibrate: temperature scaling, ECE of {BINS} bins",
            "data": [f"{len(of)} photos of {_name(of)}" for of in photos],
            "pixels": len(pixels.logits),
            "precision": segmenter.precision.value,
            "unlike": f"uncertainty above that of {PERCENTILE} % of the photos",
        },
    )
    # The uncertainties are those of a run with this temperature.
    measuring = Segmenter.load(replace(package, calibration=calibration), options)
    threshold = float(np.percentile(_uncertainties(measuring, photos), PERCENTILE))
    return add_calibration(package, directory, replace(calibration, unlike_above=threshold))


def fit_temperature(pixels: Pixels) -> float:
    """The temperature at which the labels are most likely, by a golden-section search.

    A pixel that may be one of several classes is as likely as all of them together.

    Raises:
        CalibrationError: there is none between `COLDEST` and `HOTTEST`.
    """
    low, high = math.log(COLDEST), math.log(HOTTEST)
    likelihood = _negative_log_likelihood(pixels)
    while high - low > 1e-3:
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if likelihood(math.exp(left)) < likelihood(math.exp(right)):
            high = right
        else:
            low = left
    temperature = math.exp((low + high) / 2)
    if not COLDEST * 1.01 < temperature < HOTTEST / 1.01:
        raise CalibrationError(
            f"no temperature from {COLDEST:g} to {HOTTEST:g} makes the labels most likely: the "
            "labels are all right or all by chance. Give more photos, with labels of the model's "
            "classes"
        )
    return temperature


def expected_calibration_error(pixels: Pixels, temperature: float) -> float:
    """Mean distance of confidence and accuracy, 0..1, over pixels whose label is one class.

    Raises:
        CalibrationError: there is no such pixel.
    """
    known = pixels.single != IGNORE
    if not known.any():
        raise CalibrationError(
            "no label says of a pixel which one class it is: add data whose labels do"
        )
    scores = pixels.logits[known] / np.float32(temperature)
    chosen = scores.argmax(axis=1)
    scores -= scores.max(axis=1, keepdims=True)
    confidences = 1 / np.exp(scores).sum(axis=1, dtype=np.float64)
    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
    surplus = np.bincount(bins, confidences - (chosen == pixels.single[known]), BINS)
    return float(np.abs(surplus).sum() / len(confidences))


def _negative_log_likelihood(pixels: Pixels) -> Callable[[float], float]:
    """The mean over all pixels, by temperature."""
    highest = pixels.logits.max(axis=1)
    scores = np.where(pixels.possible, pixels.logits, -np.inf)
    possible = scores.max(axis=1)
    scores -= possible[:, None]
    others = pixels.logits - highest[:, None]

    def at(temperature: float) -> float:
        divisor = np.float32(temperature)
        of_possible = np.log(np.exp(scores / divisor).sum(axis=1))
        of_all = np.log(np.exp(others / divisor).sum(axis=1)) + (highest - possible) / divisor
        return float((of_all - of_possible).mean(dtype=np.float64))

    return at


def _names(photos: Sequence[LabelledPhotos]) -> str:
    return ", ".join(map(_name, photos))


def _name(photos: LabelledPhotos) -> str:
    """What to call a data set: its folder and that of the split."""
    folder = photos.images[0].resolve().parent
    return f"{folder.parent.name}/{folder.name}"


def _check(package: ModelPackage, photos: Sequence[LabelledPhotos]) -> None:
    if len(package.classes) == 1:
        raise CalibrationError(
            f"{package.name} has one class, of which it is always sure: there is nothing to do"
        )
    total = sum(map(len, photos))
    if total < LEAST_PHOTOS:
        raise CalibrationError(
            f"found {total} photos in {_names(photos)}, expected at least {LEAST_PHOTOS}"
        )


def _look(segmenter: Segmenter, photos: Sequence[LabelledPhotos], classes: int) -> Pixels:
    """What the network says of pixels of all photos, the same ones every time."""
    total = sum(map(len, photos))
    most = min(MOST_PIXELS, max(1, MOST_LOGITS // (total * classes)))

    def look(of: LabelledPhotos, index: int) -> Pixels:
        image, label = of.read_sample(index)
        random = np.random.default_rng(zlib.crc32(of.images[index].name.encode()))
        chosen = random.integers(0, label.size, most)
        targets = label.ravel()[chosen]
        chosen, targets = chosen[targets != IGNORE], targets[targets != IGNORE]
        (inferred,) = segmenter.infer([segmenter.prepare(segmenter.resize(image))])
        if isinstance(inferred, ValueError):
            raise ValueError(f"{of.images[index]}: {inferred}")
        assert inferred.scores is not None, "a network with confidences gives scores"
        logits, _, extent = inferred.prepared.covered(inferred.scores)
        single = [t.classes[0] if len(t.classes) == 1 else IGNORE for t in of.targets]
        return Pixels(
            logits_at(logits, chosen, image.height, image.width, extent),
            possible_classes(of.targets, classes)[targets] > 0,
            np.array(single)[targets],
        )

    found = Pixels.of(_of_each(look, photos, segmenter))
    if not len(found.logits):
        raise CalibrationError(f"no pixel that was looked at in {_names(photos)} has a label")
    return found


def _uncertainties(segmenter: Segmenter, photos: Sequence[LabelledPhotos]) -> list[float]:
    def uncertainty(of: LabelledPhotos, index: int) -> float:
        found = segmenter.segment(read_photo(of.images[index])).uncertainty
        assert found is not None, "a calibrated network has uncertainties"
        return found.entropy

    return _of_each(uncertainty, photos, segmenter)


def _of_each(
    work: Callable[[LabelledPhotos, int], T],
    photos: Sequence[LabelledPhotos],
    segmenter: Segmenter,
) -> list[T]:
    """What a function of a data set and a position gives for each photo, in order."""
    each = [(of, index) for of in photos for index in range(len(of))]
    with ThreadPoolExecutor(segmenter.streams) as pool:
        return list(pool.map(lambda pair: work(*pair), each))
