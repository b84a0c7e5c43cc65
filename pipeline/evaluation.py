"""Evaluating masks that are there already: checks before any work, then a pipeline over them."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from models.classes import ClassTable
from models.evaluation import Metrics
from models.labels import label_folder, list_labels
from pipeline.errors import ConfigurationError
from pipeline.runners.options import new_pipeline
from transforms import EvaluateMasks, storage
from transforms.checking.evaluating import Evaluation, is_mask, write_evaluation
from transforms.flow.records import ImageRef
from transforms.inputs import listing, shards
from transforms.inputs.manifests import ManifestError

RESULT = "evaluation.json"


def evaluate_masks(
    masks: Sequence[str],
    data_dir: str,
    split: str,
    classes: ClassTable,
    beam_options: PipelineOptions,
) -> Metrics:
    """Compare masks with the labels of a split.

    Args:
        masks: directories, glob patterns, images, shards and manifests.
        data_dir: a folder in the CamVid layout; of the split only the labels are read.
        split: name of the split.
        classes: what the values of masks and labels mean.
        beam_options: options of the pipeline.

    Raises:
        ConfigurationError: an input is missing or holds no mask, or Beam does not know the runner.
        ValueError: there are no labels, a mask cannot be compared, a label has no mask, or no pixel
            has a class.
    """
    folder = os.path.abspath(label_folder(data_dir, split))
    list_labels(folder)
    for spec in masks:
        _check_masks(spec)
    pipeline = new_pipeline(beam_options)
    with tempfile.TemporaryDirectory() as results:
        (
            pipeline
            | "Masks" >> beam.Create(masks)
            | "Evaluate" >> EvaluateMasks(folder, len(classes))
            | "Write" >> beam.Map(write_evaluation, results, RESULT)
        )
        pipeline.run().wait_until_finish()
        evaluation = Evaluation.from_json(Path(results, RESULT).read_text(encoding="utf-8"))
    return evaluation.metrics(classes)


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
