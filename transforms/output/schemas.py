"""Schemas: the columns of `statistics/`, `failures/` and `gated/`, and their tables."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from models.classes import ClassTable
from models.merging import MergedClasses
from transforms.flow.records import ExtraColumn, Failure, Fault, Segmented
from transforms.output import columns
from transforms.output.class_columns import class_metadata
from transforms.output.column_groups import column_groups

FAILURE_SCHEMA = pa.schema(
    [
        pa.field(columns.IMAGE, pa.string(), nullable=False),
        pa.field(columns.URI, pa.string(), nullable=False),
        pa.field(columns.VERSION, pa.string(), nullable=False),
        pa.field(columns.STAGE, pa.string(), nullable=False),
        pa.field(columns.ERROR, pa.string(), nullable=False),
        pa.field(columns.MESSAGE, pa.string(), nullable=False),
        pa.field(columns.ATTEMPTS, pa.int64(), nullable=False),
        pa.field(columns.RUN_ID, pa.string(), nullable=False),
    ]
)

GATED_SCHEMA = pa.schema(
    [
        pa.field(columns.IMAGE, pa.string(), nullable=False),
        pa.field(columns.URI, pa.string(), nullable=False),
        pa.field(columns.VERSION, pa.string(), nullable=False),
        pa.field(columns.REASON, pa.string(), nullable=False),
        pa.field(columns.VALUE, pa.float64(), nullable=False),
        pa.field(columns.OF, pa.string()),
        pa.field(columns.RUN_ID, pa.string(), nullable=False),
    ]
)

EXTRA_PREFIX = "input_"
"""Prefix of a metadata column whose name is also a column of the statistics."""

MAX_EXTRA_COLUMNS = 1000
"""Metadata columns of a file of rows. If each photo brings its own, the cells grow with the square
of the photos."""

FURTHER_METADATA = "further_metadata"
"""Column with the metadata of a photo that have no columns of their own, as a JSON object."""


def statistics_table(
    segmented: Sequence[Segmented],
    classes: ClassTable,
    model: str,
    run_id: str,
    merged: MergedClasses | None = None,
    mask_values: Sequence[int] | None = None,
) -> pa.Table:
    """The statistics rows of segmented images, in the columns of the output contract.

    The columns are those of each column group for which an image has values, then the extra
    columns. An extra column never gets a name of any group, so a column means the same in all
    files.

    Args:
        segmented: the images.
        classes: the model's classes.
        model: the `model_id`.
        run_id: the run.
        merged: optional class mapping.
        mask_values: the value of each class in masks; by default the class ids.
    """
    groups = column_groups(classes, model, run_id, merged)
    fields: list[pa.Field] = []
    arrays: list[pa.Array] = []
    for group in groups:
        found = group.arrays(segmented)
        fields += group.fields[: len(found)]
        arrays += found
    taken = {field.name for group in groups for field in group.fields}
    extras = _extra_arrays(_limited([item.planned.ref.extra for item in segmented]))
    for name, array in extras.items():
        column = name
        while column in taken or (column != name and column in extras):
            column = EXTRA_PREFIX + column
        taken.add(column)
        fields.append(pa.field(column, array.type))
        arrays.append(array)
    schema = pa.schema(fields, metadata=class_metadata(classes, mask_values))
    return pa.Table.from_arrays(arrays, schema=schema)


def failure_table(failures: Sequence[Failure], run_id: str) -> pa.Table:
    """The failure rows of images, in the columns of the output contract.

    Only what is the photo's own fault counts as an attempt: a disk that is full or a store that is
    away for some nights must not put good photos into quarantine.
    """
    return pa.Table.from_pylist(
        [
            {
                columns.IMAGE: failure.planned.ref.image,
                columns.URI: failure.planned.ref.uri,
                columns.VERSION: failure.planned.ref.version,
                columns.STAGE: failure.stage,
                columns.ERROR: failure.error,
                columns.MESSAGE: failure.message,
                columns.ATTEMPTS: failure.planned.attempts + _counts(failure),
                columns.RUN_ID: run_id,
            }
            for failure in failures
        ],
        FAILURE_SCHEMA,
    )


def _counts(failure: Failure) -> bool:
    """Whether a failure counts as an attempt to segment the photo."""
    return failure.fault is Fault.PHOTO and failure.stage != columns.WRITE


def _limited(extras: Sequence[tuple[ExtraColumn, ...]]) -> Sequence[tuple[ExtraColumn, ...]]:
    """The same with at most `MAX_EXTRA_COLUMNS` names, the most common, and the rest as text."""
    names = Counter(entry.name for extra in extras for entry in extra)
    if len(names) <= MAX_EXTRA_COLUMNS:
        return extras
    kept = {name for name, _ in names.most_common(MAX_EXTRA_COLUMNS)} - {FURTHER_METADATA}
    limited = []
    for extra in extras:
        further = {entry.name: entry.value for entry in extra if entry.name not in kept}
        text = json.dumps(further, default=str, ensure_ascii=False) if further else None
        limited.append(
            (
                *(entry for entry in extra if entry.name in kept),
                ExtraColumn(FURTHER_METADATA, "string", text),
            )
        )
    return limited


def _extra_arrays(extras: Sequence[tuple[ExtraColumn, ...]]) -> dict[str, pa.Array]:
    """The extra columns by name, over rows whose columns may differ.

    A mix of integers and floats becomes float64; any other mix becomes text.
    """
    types: dict[str, set[str]] = {}
    for extra in extras:
        for entry in extra:
            types.setdefault(entry.name, set()).add(entry.arrow_type)
    values: dict[str, list[Any]] = {name: [None] * len(extras) for name in types}
    for row, extra in enumerate(extras):
        for entry in extra:
            values[entry.name][row] = entry.value
    arrays = {}
    for name, kinds in types.items():
        if kinds == {"int64", "double"}:
            arrays[name] = pa.array(values[name], pa.float64())
        elif len(kinds) == 1:
            arrays[name] = pa.array(values[name], pa.type_for_alias(kinds.pop()))
        else:
            texts = [None if value is None else str(value) for value in values[name]]
            arrays[name] = pa.array(texts, pa.string())
    return arrays
