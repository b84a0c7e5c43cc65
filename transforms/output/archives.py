"""Archives: the results of one model in an output folder, for code that reads results.

Each run writes a description of its model to `models/`, so readers need only the output folder.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.classes import IGNORE, ClassTable
from models.mask_options import CLASS_IDS, MaskOptions
from models.packages import DESCRIPTION_FILE, ModelPackage, classes_of
from transforms import storage
from transforms.output import columns, fencing, names, parquet

MASK_VALUES = "mask_values"
MODEL_ID = "model_id"
"""Keys that a model card has in addition to the package's description."""


class ArchiveError(ValueError):
    """A folder holds no results, or no results of the requested model."""


@dataclass(frozen=True)
class Archive:
    """The results of one model in an output folder.

    Attributes:
        output: the output folder.
        model: the model id in its rows.
        classes: the model's classes.
        mask_values: the value of each class in masks, in the order of the class ids.
        card: the package's description: architecture, training, metrics, ...
    """

    output: str
    model: str
    classes: ClassTable
    mask_values: tuple[int, ...]
    card: dict[str, Any]

    def class_ids(self, values: np.ndarray) -> np.ndarray:
        """The class ids of mask values, uint8 of the same shape; 255 for other values."""
        ids = np.full(256, IGNORE, np.uint8)
        ids[list(self.mask_values)] = np.arange(len(self.classes))
        return ids[values]


def write_card(
    output: str, package: ModelPackage, masks: MaskOptions = CLASS_IDS, owner: str = ""
) -> None:
    """Write the description of a model and of its masks to an output folder.

    Args:
        output: the output folder.
        package: the model.
        masks: the kind of masks in the folder.
        owner: who holds the lock of the folder, see `fencing.check`.

    Raises:
        LockLostError: it has lost the lock.
        StorageError: the file cannot be written.
    """
    model_id = masks.model_id(package)
    description = json.loads((package.path / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    card = description | {MODEL_ID: model_id, MASK_VALUES: masks.values(package.classes)}
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    name = names.image_name(model_id).replace("/", "-")
    fencing.write(output, f"{columns.MODELS}/{name}.json", text.encode(), owner)


def open_archive(output: str, model: str | None = None) -> Archive:
    """The results of `model` in an output folder; by default those of the model that ran last.

    Args:
        output: the output folder.
        model: a model id, or the name before its `@`.

    Raises:
        ArchiveError: the folder holds no results, or none of this model.
        StorageError: the folder cannot be read.
    """
    output = storage.absolute(output)
    archives = read_archives(output)
    if not archives:
        raise ArchiveError(
            f"{output}: no results with a description of their model in {columns.MODELS}/; give "
            "the OUT of a `citymask run`, or run it again: existing results are kept"
        )
    wanted = [a for a in archives if model is None or model in (a.model, a.model.split("@")[0])]
    if not wanted:
        raise ArchiveError(
            f"{output}: no results of the model {model!r}; "
            f"it holds those of {', '.join(archive.model for archive in archives)}"
        )
    return wanted[-1]


def read_archives(output: str) -> list[Archive]:
    """The results of each model with a description in an output folder, newest card last.

    Raises:
        ArchiveError: a file is not a model description.
        StorageError: the folder cannot be read.
    """
    cards = sorted(
        storage.list_folder(f"{output}/{columns.MODELS}", ".json"),
        key=lambda file: file.modified_ns,
    )
    return [_read_card(output, file.path) for file in cards]


def statistics_of(
    archive: Archive, files: Sequence[str], wanted: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """The rows of the archive's model in statistics files, one table per file.

    Args:
        archive: the archive whose rows to read.
        files: paths of statistics files, see `parquet.files_in` and `parquet.file_blocks`.
        wanted: columns; None: all.

    Raises:
        StorageError: a file cannot be read, is damaged, or lacks a column.
    """
    if wanted is not None:
        wanted = list(dict.fromkeys([*wanted, columns.MODEL]))
    keys = archive.classes.keys
    counts = [pa.field(columns.PIXELS_PREFIX + k, pa.int64(), nullable=False) for k in keys]
    for file, table in parquet.read_tables(files, wanted):
        of_model = table.filter(pc.equal(table[columns.MODEL], archive.model))
        if wanted is None and len(of_model):
            if missing := {field.name for field in counts} - set(of_model.column_names):
                error = ValueError(f"has no column {', '.join(sorted(missing))}")
                raise parquet.DamagedError.of(file, error)
            of_model = parquet.conformed(file, of_model, counts)
        yield of_model


def _read_card(output: str, file: str) -> Archive:
    try:
        card = json.loads(storage.read(file))
        classes, values = classes_of(card), tuple(map(int, card[MASK_VALUES]))
        if len(values) != len(classes) or not all(0 <= value < IGNORE for value in values):
            raise ValueError(f"found the {MASK_VALUES} {values}, expected {len(classes)} of 0..254")
        return Archive(output, card[MODEL_ID], classes, values, card)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ArchiveError(
            f"{file}: not a model description ({type(error).__name__}: {error}); "
            "remove it and run `citymask run` again: existing results are kept"
        ) from error
