"""Evaluating a model, whose photos are decoded as in a run, or masks that are there already."""

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import apache_beam as beam
import numpy as np

from models.classes import ClassTable
from models.engines import AUTOMATIC, EngineOptions
from models.evaluation import Metrics, measure
from models.labelled_photos import LabelledPhotos
from models.meanings import Common
from models.objects import class_ids
from models.packages import ModelPackage
from models.segmenter import Segmenter
from pipeline.errors import ConfigurationError
from pipeline.runners import Runner
from transforms import EvaluateMasks, storage
from transforms.checking.evaluating import Evaluation, is_mask, list_labels, write_evaluation
from transforms.flow.records import ImageRef, Projection
from transforms.inputs import listing, shards
from transforms.inputs.manifests import ManifestError
from transforms.photos.decoding import DEFAULT_MAX_PIXELS, DecodeError, decode_photo

TEMPORARY = "temp_location"
"""Beam's option that names a folder which all workers can write to."""


def evaluate_model(
    package: ModelPackage,
    data_sets: Sequence[tuple[LabelledPhotos, Common]],
    options: EngineOptions = AUTOMATIC,
    windows: float | None = None,
    projection: Projection = Projection.AUTO,
    objects: Sequence[str] = (),
) -> list[Metrics]:
    """Measure a model on labelled photos.

    Args:
        package: the model.
        data_sets: of each its photos, and what their labels and the model have in common.
        options: how the network is run.
        windows: see `Segmenter`.
        projection: how photos are taken; left open, as their files say.
        objects: names of `common` whose objects are counted.

    Raises:
        ValueError: photos or labels are missing, damaged, or do not fit their classes, or a name is
            unknown.
        EngineError: the engine asked for cannot run here.
    """
    segmenter = Segmenter.load(package, replace(options, batch_size=1), windows)

    def segment(path: Path) -> np.ndarray:
        try:
            data = storage.read(str(path))
            photo = decode_photo(data, segmenter.shape_for, DEFAULT_MAX_PIXELS, projection)
        except (storage.StorageError, DecodeError) as error:
            raise ValueError(
                f"{path}: {error}. Replace it, or move it and its label away"
            ) from error
        return segmenter.segment_input(photo).mask

    return [
        measure(segment, photos, common, segmenter.streams, objects) for photos, common in data_sets
    ]


def evaluate_masks(
    masks: Sequence[str],
    labels: str,
    classes: ClassTable,
    runner: Runner,
    objects: Sequence[str] = (),
) -> Metrics:
    """Compare masks with labels.

    Args:
        masks: directories, glob patterns, images, shards and manifests.
        labels: the folder of the labels.
        classes: what the values of masks and labels mean.
        runner: what runs the graph.
        objects: names of the classes whose objects are counted.

    Raises what `Runner.run` raises, and:
        ConfigurationError: an input is missing or holds no mask, or labels cannot be listed.
        ValueError: there are no labels, a mask cannot be compared, a label has no mask, no pixel
            has a class, or a name is unknown.
    """
    ids = class_ids(classes.names, objects)
    try:
        list_labels(labels)
    except storage.StorageError as error:
        raise ConfigurationError(str(error)) from error
    for spec in masks:
        _check_masks(spec)
    with _result_folder(runner) as folder:
        name = f"evaluation-{uuid.uuid4().hex}.json"
        build = partial(
            build_graph,
            masks=masks,
            evaluate=EvaluateMasks(labels, len(classes), ids),
            folder=folder,
            name=name,
        )
        runner.run(build)
        evaluation = Evaluation.from_json(storage.read(f"{folder}/{name}").decode())
        storage.remove(folder, name)
    return evaluation.metrics(classes)


def build_graph(
    pipeline: beam.Pipeline,
    masks: Sequence[str],
    evaluate: EvaluateMasks,
    folder: str,
    name: str,
) -> None:
    """Add the steps that compare masks with labels, and write the result to a file."""
    (
        pipeline
        | "Masks" >> beam.Create(masks)
        | "Evaluate" >> evaluate
        | "Write" >> beam.Map(write_evaluation, folder, name)
    )


@contextmanager
def _result_folder(runner: Runner) -> Iterator[str]:
    """As a context, a folder that the workers can write to and this process can read."""
    if runner.has_other_machines and runner.options.get(TEMPORARY):
        yield storage.absolute(runner.options[TEMPORARY])
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield folder


def _check_masks(spec: str) -> None:
    try:
        found = any(
            isinstance(item, ImageRef) and is_mask(item)
            for listed in listing.list_input(spec)
            for item in listing.list_members(listed)
        )
    except (listing.InputError, ManifestError, storage.StorageError) as error:
        raise ConfigurationError(str(error)) from error
    if not found:
        raise ConfigurationError(
            f"{spec}: no masks found; expected index masks (.png) or shards of them "
            f"({', '.join(shards.extensions())})"
        )
