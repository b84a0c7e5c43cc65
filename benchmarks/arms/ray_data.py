"""Ray Data with a TensorFlow function, following its guide to offline batch inference.

https://docs.ray.io/en/latest/data/batch_inference.html
"""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import ray
import tensorflow as tf

from benchmarks.arms import MASKS
from benchmarks.arms.plain import BATCH_SIZE, Plain
from models.packages import load_package


def run(archive: Path, output: Path, model: str) -> None:
    plain = Plain(load_package(model), output / MASKS)
    plain.masks.mkdir(parents=True)
    ray.init(
        num_cpus=os.cpu_count(),
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    photos = ray.data.read_binary_files(str(archive), include_paths=True)
    masks = photos.map(decode, fn_args=(plain,)).map_batches(
        Segment, fn_constructor_args=(plain,), batch_size=BATCH_SIZE, concurrency=1
    )
    masks.map(write, fn_args=(plain,)).write_csv(str(output / "counts"))
    ray.shutdown()


def decode(row: dict[str, Any], plain: Plain) -> dict[str, Any]:
    pixels, height, width = plain.read(BytesIO(row["bytes"]))
    return {"path": row["path"], "pixels": pixels, "height": height, "width": width}


class Segment:
    """Segments batches of photos of one size."""

    def __init__(self, plain: Plain):
        self._network = plain.package.build_network()
        self._masks = tf.function(self._segment)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        size = int(batch["height"][0]), int(batch["width"][0])
        masks = self._masks(tf.constant(batch["pixels"]), tf.constant(size))
        return {"path": batch["path"], "mask": masks.numpy()}

    def _segment(self, pixels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        logits = tf.image.resize(self._network(pixels, training=False), size)
        return tf.cast(tf.argmax(logits, axis=-1), tf.uint8)


def write(row: dict[str, Any], plain: Plain) -> dict[str, Any]:
    """Write a mask; return the photo's path and its pixels of each class."""
    mask = row["mask"]
    plain.encode(mask, Path(plain.path(row["path"])))
    keys = plain.package.classes.keys
    counts = np.bincount(mask.ravel(), minlength=len(keys))
    return {"path": row["path"], **dict(zip(keys, counts.tolist(), strict=True))}
