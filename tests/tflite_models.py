"""Small TFLite files for tests, converted from TensorFlow, and changed."""

import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

CLASSES, STRIDE = 5, 2
FIXED, OPEN = (1, 32, 48, 3), (None, None, None, 3)


def scores(photos: tf.Tensor) -> tf.Tensor:
    """Two convolutions with weights that are always the same."""
    random = np.random.default_rng(5)
    first = tf.constant(random.normal(0, 0.3, (3, 3, 3, 8)), tf.float32)
    second = tf.constant(random.normal(0, 0.3, (1, 1, 8, CLASSES)), tf.float32)
    return tf.nn.conv2d(tf.nn.relu(tf.nn.conv2d(photos, first, STRIDE, "SAME")), second, 1, "SAME")


def probabilities(photos: tf.Tensor) -> tf.Tensor:
    return tf.nn.softmax(scores(photos))


def class_ids(photos: tf.Tensor) -> tf.Tensor:
    return tf.argmax(scores(photos), axis=-1)


def with_context(photos: tf.Tensor) -> tf.Tensor:
    """Scores that also depend on the mean of all, as in DeepLab.

    OpenVINO does not read it: it moves a transposition over the tiling, whose repeats it keeps.
    """
    local = scores(photos)
    random = np.random.default_rng(6)
    inner, outer = (
        tf.constant(random.normal(0, 0.3, (1, 1, channels, CLASSES)), tf.float32)
        for channels in (CLASSES, 2 * CLASSES)
    )
    _, height, width, _ = local.shape
    whole = tf.nn.conv2d(tf.nn.avg_pool2d(local, (height, width), 1, "VALID"), inner, 1, "SAME")
    both = tf.concat([tf.tile(whole, (1, height, width, 1)), local], -1)
    return tf.nn.conv2d(both, outer, 1, "SAME")


def converted(
    call: Callable[[tf.Tensor], tf.Tensor] = scores,
    shape: tuple[int | None, ...] = FIXED,
    **settings: Any,
) -> bytes:
    """A TFLite file of a function of photos; `settings` are those of the converter."""
    function = tf.function(call, input_signature=[tf.TensorSpec(shape, name="photos")])
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], tf.Module()
    )
    for name, value in settings.items():
        setattr(converter, name, value)
    return converter.convert()


def quantised(call: Callable[[tf.Tensor], tf.Tensor] = scores, dtype: Any = tf.uint8) -> bytes:
    """The same in 8-bit integers, from photos in 0..1 on."""

    def photos() -> Iterator[list[np.ndarray]]:
        for seed in range(4):
            yield [np.random.default_rng(seed).random(FIXED, np.float32)]

    return converted(
        call,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=photos,
        inference_input_type=dtype,
        inference_output_type=dtype if call is not class_ids else tf.float32,
    )


def changed(content: bytes, change: Callable[[Any], None]) -> bytes:
    """A file after a change of its contents, which are a `schema.ModelT`."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    change(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def with_metadata(content: bytes, metadata: bytes, **files: str) -> bytes:
    """A file with metadata, and with label files packed behind it; `__` stands for the dot."""

    def change(model: Any) -> None:
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = list(metadata)
        entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
        model.buffers.append(buffer)
        model.metadata = [*(model.metadata or ()), entry]

    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in files.items():
            packed.writestr(name.replace("__", "."), text)
    return changed(content, change) + (archive.getvalue() if files else b"")


def table(builder: flatbuffers.Builder, **fields: tuple[str, Any]) -> int:
    """A table of fields named `_0`, `_1` and so on: texts, tables, vectors, numbers by kind."""
    prepared = {}
    for name, (kind, value) in fields.items():
        if kind == "text":
            value = builder.CreateString(value)
        elif kind == "tables":
            builder.StartVector(4, len(value), 4)
            for entry in reversed(value):
                builder.PrependUOffsetTRelative(entry)
            value = builder.EndVector()
        elif kind == "floats":
            value = builder.CreateNumpyVector(np.asarray(value, np.float32))
        prepared[int(name[1:])] = (kind, value)
    builder.StartObject(max(prepared, default=0) + 1)
    for field, (kind, value) in prepared.items():
        if kind == "byte":
            builder.PrependUint8Slot(field, value, 0)
        elif kind == "uint":
            builder.PrependUint32Slot(field, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(field, value, 0)
    return builder.EndObject()


def metadata(
    mean: list[float] = (127.5,), std: list[float] = (127.5,), labels: str = "labels.txt"
) -> bytes:
    """Metadata as TensorFlow Lite Support writes it, by its `metadata_schema.fbs`."""
    builder = flatbuffers.Builder()
    options = table(builder, _0=("floats", mean), _1=("floats", std))
    step = table(builder, _0=("byte", 1), _1=("table", options))
    size = table(builder, _0=("uint", 48), _1=("uint", 32))
    image = table(builder, _0=("byte", 1), _1=("table", size))
    content = table(builder, _0=("byte", 2), _1=("table", image))
    taken = table(builder, _3=("table", content), _4=("tables", [step]))
    file = table(builder, _0=("text", labels), _2=("byte", 2))
    given = table(builder, _6=("tables", [file]))
    graph = table(builder, _2=("tables", [taken]), _3=("tables", [given]))
    model = table(
        builder,
        _0=("text", "streets"),
        _3=("tables", [graph]),
        _5=("text", "Apache License\nVersion 2.0"),
    )
    builder.Finish(model, b"M001")
    return bytes(builder.Output())
