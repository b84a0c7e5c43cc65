"""What the metadata in a TFLite file states: normalisation, licence, and a packed label file.

Numbers of fields are those of TensorFlow Lite Support, `metadata_schema.fbs`. Label files are
packed as a ZIP archive behind the network.
"""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO

import numpy as np

from models.flat_tables import Table
from models.graphs import Channels
from models.importing.companions import names_in
from models.importing.sources import Fact, Facts

ENTRY = "TFLITE_METADATA"
"""Name of the metadata in a file."""

MAX_LABEL_BYTES = 1 << 20
"""Largest label file, unpacked, in bytes."""

MAX_LICENCE = 200
"""Longest licence that is kept, in characters."""

SOURCE = "TFLite metadata"

_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, KeyError, RuntimeError, EOFError,
    OSError,
)  # fmt: skip
"""What reading a damaged archive raises, besides ValueError."""

# Fields of the tables ModelMetadata, SubGraphMetadata, TensorMetadata, Content, ImageProperties,
# ImageSize, ProcessUnit, NormalizationOptions and AssociatedFile. A union has two: type and value.
_NAME, _GRAPHS, _LICENCE, _MODEL_FILES = 0, 3, 5, 6
_INPUTS, _OUTPUTS, _GRAPH_FILES = 2, 3, 4
_CONTENT, _STEPS, _TENSOR_FILES = 3, 4, 6
_UNION_TYPE, _UNION = 0, 1
_COLORS, _SIZE = 0, 1
_WIDTH, _HEIGHT = 0, 1
_MEAN, _STD = 0, 1
_FILE_NAME, _FILE_TYPE = 0, 2

_IMAGE, _NORMALISATION, _RGB, _LABEL_TYPES = 2, 1, 1, (2, 3)


def stated(metadata: bytes, content: bytes) -> Facts:
    """Facts of a network with one input and one output.

    Args:
        metadata: the entry `ENTRY` of the file.
        content: the file, with label files behind the network.

    Raises:
        ValueError: the metadata or the archive is damaged; the message does not name the file.
    """
    model = Table.root(metadata)
    graph = next(iter(model.tables(_GRAPHS)), None)
    facts = Facts(
        name=_fact(model.text(_NAME)),
        licence=_fact(" ".join(model.text(_LICENCE).split())[:MAX_LICENCE]),
    )
    if graph is None:
        return facts
    labels = _labels([*_label_files(model, graph)], content)
    facts = facts.filled_from(Facts(class_names=Fact(labels, SOURCE) if labels else None))
    for tensor in graph.tables(_INPUTS)[:1]:
        facts = facts.filled_from(_of_input(tensor))
    return facts


def _fact(text: str) -> Fact[str] | None:
    return Fact(text, SOURCE) if text else None


def _of_input(tensor: Table) -> Facts:
    facts = Facts()
    for step in tensor.tables(_STEPS):
        options = step.table(_UNION)
        if step.number(_UNION_TYPE, "B") == _NORMALISATION and options:
            mean, std = (_per_channel(options, field) for field in (_MEAN, _STD))
            if mean and std and all(std):
                facts = facts.filled_from(Facts(mean=Fact(mean, SOURCE), std=Fact(std, SOURCE)))
    content = tensor.table(_CONTENT)
    image = (
        content.table(_UNION) if content and content.number(_UNION_TYPE, "B") == _IMAGE else None
    )
    if image is None:
        return facts
    if image.number(_COLORS, "b") == _RGB:
        facts = facts.filled_from(Facts(channels=Fact(Channels.RGB, SOURCE)))
    if size := image.table(_SIZE):
        width, height = (int(size.number(field, "<I")) for field in (_WIDTH, _HEIGHT))
        if width and height:
            facts = facts.filled_from(Facts(input_size=Fact((width, height), SOURCE)))
    return facts


def _per_channel(options: Table, field: int) -> tuple[float, float, float] | None:
    """Values for bytes 0..255, as those for photos scaled to 0..1."""
    values = options.numbers(field, "<f4")
    if len(values) not in (1, 3) or not np.isfinite(values).all():
        return None
    red, green, blue = np.broadcast_to(values.astype(float) / 255, 3).tolist()
    return red, green, blue


def _label_files(model: Table, graph: Table) -> Iterator[str]:
    """Names of packed label files, those of the output first."""
    for tensor in graph.tables(_OUTPUTS)[:1]:
        for file in tensor.tables(_TENSOR_FILES):
            if file.number(_FILE_TYPE, "b") in _LABEL_TYPES:
                yield file.text(_FILE_NAME)
    for file in (*graph.tables(_GRAPH_FILES), *model.tables(_MODEL_FILES)):
        if "label" in file.text(_FILE_NAME).lower():
            yield file.text(_FILE_NAME)


def _labels(names: list[str], content: bytes) -> tuple[str, ...]:
    """The class names of the first label file."""
    if not names:
        return ()
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            entry = archive.getinfo(names[0])
            if entry.file_size > MAX_LABEL_BYTES:
                raise ValueError(
                    f"its {names[0]!r} has {entry.file_size} bytes, at most {MAX_LABEL_BYTES} are "
                    "read"
                )
            with archive.open(entry) as file:
                return names_in(file.read(MAX_LABEL_BYTES).decode("utf-8-sig", errors="replace"))
    except _ZIP_ERRORS as error:
        raise ValueError(f"the label file {names[0]!r} in it cannot be read: {error}") from error
