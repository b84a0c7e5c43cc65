"""Shards made for tests, by Python's tarfile and by TensorFlow."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """A tar of members, in this order; a name may be any bytes, as surrogates."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def write_tfrecord(path: Path, examples: Iterable[Mapping[str, bytes]]) -> Path:
    """A TFRecord of `tf.train.Example`s whose features are bytes."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for features in examples:
            feature = {
                key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                for key, value in features.items()
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    return path


def write_photo_records(path: Path, photos: Mapping[str, bytes]) -> Path:
    """A TFRecord of photos by their names."""
    return write_tfrecord(
        path,
        ({"image/filename": name.encode(), "image/encoded": data} for name, data in photos.items()),
    )
