"""Evaluating masks that are there already: checks before any work, then a graph over them."""

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import apache_beam as beam

from models.classes import ClassTable
from models.evaluation import Metrics
from pipeline.errors import ConfigurationError
from pipeline.runners import Runner
from transforms import EvaluateMasks, storage
from transforms.checking.evaluating import Evaluation, is_mask, list_labels, write_evaluation
from transforms.flow.records import ImageRef
from transforms.inputs import listing
from transforms.inputs.manifests import ManifestError

TEMPORARY = "temp_location"
"""Beam's option that names a folder which all workers can write to."""


def evaluate_masks(
    masks: Sequence[str], labels: str, classes: ClassTable, runner: Runner
) -> Metrics:
    """Compare masks with labels.

    Args:
        masks: directories, glob patterns, images, shards and manifests.
        labels: the folder of the labels.
        classes: what the values of masks and labels mean.
        runner: what runs the graph.

    Raises what `Runner.run` raises, and:
        ConfigurationError: an input is missing or holds no mask, or labels cannot be listed.
        ValueError: there are no labels, a mask cannot be compared, a label has no mask, or no pixel
            has a class.
    """
    try:
        list_labels(labels)
    except storage.StorageError as error:
        raise ConfigurationError(str(error)) from error
    for spec in masks:
        _check_masks(spec)
    with _result_folder(runner) as folder:
        name = f"evaluation-{uuid.uuid4().hex}.json"
        build = partial(
            build_graph, masks=masks, labels=labels, classes=len(classes), folder=folder, name=name
        )
        runner.run(build)
        evaluation = Evaluation.from_json(storage.read(f"{folder}/{name}").decode())
        storage.remove(f"{folder}/{name}")
    return evaluation.metrics(classes)


def build_graph(
    pipeline: beam.Pipeline,
    masks: Sequence[str],
    labels: str,
    classes: int,
    folder: str,
    name: str,
) -> None:
    """Add the steps that compare masks with labels, and write the result to a file."""
    (
        pipeline
        | "Masks" >> beam.Create(masks)
        | "Evaluate" >> EvaluateMasks(labels, classes)
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
            "(.tar, .tfrecord)"
        )
