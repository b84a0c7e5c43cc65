"""Likely mistakes in what is understood of a network, tried on labelled photos."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.classes import MAX_CLASSES, ClassTable
from models.engines import EngineError
from models.evaluation import Metrics, measure
from models.graphs import Channels, Gives, Resize
from models.importing.making import TRIAL, Imported
from models.importing.naming import BACKGROUND, with_background
from models.importing.settling import IMAGENET_MEAN, IMAGENET_STD
from models.labelled_photos import LabelledPhotos, list_split, read_photo
from models.meanings import Common
from models.packages import PackageError
from models.segmenter import Segmenter

MOST_PHOTOS = 24
"""Labelled photos on which each variant is tried, spread evenly over those of the folder."""

NORMALISATIONS = {
    "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225": (IMAGENET_MEAN, IMAGENET_STD),
    "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5": ((0.5,) * 3, (0.5,) * 3),
    "--mean 0,0,0 --std 1,1,1": ((0.0,) * 3, (1.0,) * 3),
    "--mean 0,0,0 --std 0.00392157,0.00392157,0.00392157": ((0.0,) * 3, (1 / 255,) * 3),
}
"""Usual ways to normalise photos, by the options that ask for them: ImageNet's statistics, from -1
to 1, from 0 to 1, and not at all."""


@dataclass(frozen=True)
class Tried:
    """A way to run a network, and its quality.

    Attributes:
        options: that ask for it; empty: as understood.
        metrics: over the classes that the network and the labels have in common.
    """

    options: str
    metrics: Metrics


def check(imported: Imported, data: str, split: str, labels: ClassTable | None) -> list[Tried]:
    """Measure a network as it is understood, and with likely mistakes corrected.

    Args:
        imported: the network.
        data: labelled photos in the CamVid folder layout.
        split: of them.
        labels: their classes; None: those that are named for the network.

    Returns:
        First the network as it is understood, then variants, the best one first. A variant that
        does not run is left out.

    Raises:
        ValueError: there are no labelled photos, or they do not fit the classes.
        EngineError: the network does not run.
    """
    labels = labels or imported.understood.named
    photos = _spread(list_split(data, split, len(labels)))
    as_understood = Tried("", _measured(imported, {}, photos, labels))
    variants = []
    for options, changes in _variants(imported):
        try:
            variants.append(Tried(options, _measured(imported, changes, photos, labels)))
        except (EngineError, PackageError):
            continue
    return [as_understood, *sorted(variants, key=lambda tried: -tried.metrics.miou)]


def _measured(
    imported: Imported, changes: dict[str, Any], photos: LabelledPhotos, labels: ClassTable
) -> Metrics:
    common = Common.of(changes.get("classes", imported.description.classes), labels)
    with tempfile.TemporaryDirectory() as folder:
        segmenter = Segmenter.load(imported.write(folder, **changes), TRIAL)

    def segment(path: Path):
        return segmenter.segment(read_photo(path)).mask

    return measure(segment, photos, common, segmenter.streams)


def _variants(imported: Imported) -> Iterator[tuple[str, dict[str, Any]]]:
    """The options of each variant, and what they change in the description."""
    described = imported.description
    graph = described.imported
    other = Channels.RGB if graph.input.channels is Channels.BGR else Channels.BGR
    turned = replace(graph.input, channels=other)
    yield f"--channels {other.value}", {"graph": replace(graph, input=turned)}
    for options, (mean, std) in NORMALISATIONS.items():
        if graph.input.dtype.startswith("float") and (mean, std) != (described.mean, described.std):
            yield options, {"mean": mean, "std": std}
    resize = Resize.STRETCH if graph.input.resize is Resize.PAD else Resize.PAD
    resized = replace(graph.input, resize=resize)
    yield f"--resize {resize.value}", {"graph": replace(graph, input=resized)}
    if graph.output.gives is Gives.CLASS_IDS:
        if BACKGROUND not in described.classes.names and len(described.classes) < MAX_CLASSES:
            channels = tuple(range(len(described.classes) + 1))
            shifted = replace(graph.output, channels=channels, outputs=len(channels))
            yield (
                "--background first",
                {
                    "graph": replace(graph, output=shifted),
                    "classes": with_background(described.classes, first=True),
                },
            )
        return
    for where, step in (("first", 1), ("last", -1)):
        channels = tuple(channel + step for channel in graph.output.channels)
        if min(channels) >= 0 and max(channels) < graph.output.outputs:
            shifted = replace(graph.output, channels=channels)
            yield f"--background {where}", {"graph": replace(graph, output=shifted)}


def _spread(photos: LabelledPhotos) -> LabelledPhotos:
    step = -(-len(photos) // MOST_PHOTOS)
    return LabelledPhotos(photos.images[::step], photos.labels[::step], photos.classes)
