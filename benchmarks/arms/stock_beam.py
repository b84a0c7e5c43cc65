"""Beam as its documentation shows it: read files, decode in a Map, RunInference, write.

Follows https://beam.apache.org/documentation/ml/about-ml/ and the examples that it links to. All
photos need the same size, since the handler stacks them.
"""

from functools import partial
from io import BytesIO
from pathlib import Path

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.io import fileio
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference
from apache_beam.ml.inference.tensorflow_inference import ModelType, TFModelHandlerNumpy
from apache_beam.options.pipeline_options import PipelineOptions

from benchmarks.arms import MASKS
from benchmarks.arms.plain import BATCH_SIZE, Plain
from models.networks import build_network
from models.packages import WEIGHTS_FILE, ModelPackage, load_package

RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""The runner of `citymask run`."""

Key = tuple[str, int, int]
"""A photo's path, height and width."""


def run(archive: Path, output: Path, model: str) -> None:
    package = load_package(model)
    plain = Plain(package, output / MASKS)
    plain.masks.mkdir(parents=True)
    with beam.Pipeline(options=PipelineOptions(flags=[], runner=RUNNER)) as pipeline:
        (
            pipeline
            | fileio.MatchFiles(f"{archive}/*")
            | fileio.ReadMatches()
            | "Decode" >> beam.Map(decode, plain)
            | RunInference(KeyedModelHandler(handler(package)))
            | "WriteMask" >> beam.ParDo(WriteMask(plain))
            | "Format" >> beam.Map(lambda row: ",".join(map(str, row)))
            | beam.io.WriteToText(str(output / "counts"), ".csv", shard_name_template="")
        )


def handler(package: ModelPackage) -> TFModelHandlerNumpy:
    classes = len(package.classes)
    return TFModelHandlerNumpy(
        str(package.path / WEIGHTS_FILE),
        model_type=ModelType.SAVED_WEIGHTS,
        create_model_fn=partial(build_network, package.architecture, classes, package.width),
        min_batch_size=BATCH_SIZE,
        max_batch_size=BATCH_SIZE,
    )


def decode(file: fileio.ReadableFile, plain: Plain) -> tuple[Key, np.ndarray]:
    pixels, height, width = plain.read(BytesIO(file.read()))
    return (file.metadata.path, height, width), pixels


class WriteMask(beam.DoFn):
    """Writes masks at the photos' size; yields a photo's path and its pixels of each class."""

    def __init__(self, plain: Plain):
        self._plain = plain

    def process(self, element: tuple[Key, PredictionResult]):
        (path, height, width), result = element
        logits = tf.image.resize(result.inference, (height, width))
        mask = tf.argmax(logits, axis=-1).numpy().astype(np.uint8)
        with FileSystems.create(self._plain.path(path)) as file:
            self._plain.encode(mask, file)
        yield path, *np.bincount(mask.ravel(), minlength=len(self._plain.package.classes))
