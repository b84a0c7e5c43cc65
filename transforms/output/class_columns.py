"""Class columns: which columns of a statistics file count the pixels of a class.

The schema metadata of the file lists them, under the key `citymask`, as JSON:

    {"format": 1, "classes": [{"column": "pixels_sky", "name": "Sky", "value": 0}, ...]}

The classes are in the order of their ids; `value` is the value of their pixels in masks. Files of
version 0.1 lack the metadata.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from models.classes import ClassTable
from transforms.output import columns

METADATA_KEY = b"citymask"

FORMAT = "format"
CLASSES = "classes"
"""Keys of the document."""

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ClassColumn:
    """A column that counts the pixels of a class.

    Attributes:
        column: its name.
        name: the name of the class; None if the file lacks it.
        value: the value of the class in masks, 0..254; None if the file lacks it.
    """

    column: str
    name: str | None = None
    value: int | None = None


def class_metadata(
    classes: ClassTable, mask_values: Sequence[int] | None = None
) -> dict[bytes, bytes]:
    """The schema metadata of statistics rows.

    Args:
        classes: the model's classes.
        mask_values: the value of each class in masks; by default the class ids.
    """
    entries = [
        ClassColumn(columns.PIXELS_PREFIX + entry.key, entry.name, value)
        for entry, value in zip(classes.classes, mask_values or range(len(classes)), strict=True)
    ]
    document = {FORMAT: FORMAT_VERSION, CLASSES: [asdict(entry) for entry in entries]}
    return {METADATA_KEY: json.dumps(document, ensure_ascii=False).encode()}


def class_columns(schema: pa.Schema) -> list[ClassColumn]:
    """The columns of pixels per class, in the order of the class ids.

    Without the metadata, these are the columns with the prefix that come before the group column;
    those after it come from a manifest.
    """
    try:
        document = json.loads(schema.metadata[METADATA_KEY])
        if document[FORMAT] == FORMAT_VERSION:
            found = [ClassColumn(**entry) for entry in document[CLASSES]]
            if {entry.column for entry in found} <= set(schema.names):
                return found
    except (KeyError, TypeError, ValueError, RecursionError):
        pass  # No metadata, or metadata of another program.
    own = schema.names[: schema.names.index(columns.GROUP)]
    return [ClassColumn(name) for name in own if name.startswith(columns.PIXELS_PREFIX)]
