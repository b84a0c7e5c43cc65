"""Schemas: the columns of `statistics/`, `failures/` and `gated/`, and the tables in them."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from models.classes import ClassTable
from models.merging import MergedClasses
from transforms.flow.records import ExtraColumn, Failure, Projection, Segmented
from transforms.output import columns

ROW_FIELDS = (
    pa.field(columns.IMAGE, pa.string(), nullable=False),
    pa.field(columns.URI, pa.string(), nullable=False),
    pa.field(columns.VERSION, pa.string(), nullable=False),
    pa.field(columns.WIDTH, pa.int64(), nullable=False),
    pa.field(columns.HEIGHT, pa.int64(), nullable=False),
    pa.field(columns.LATITUDE, pa.float64()),
    pa.field(columns.LONGITUDE, pa.float64()),
    pa.field(columns.CAPTURED_AT, pa.timestamp("us")),
    pa.field(columns.HEADING, pa.float64()),
    pa.field(columns.MASK, pa.string(), nullable=False),
    pa.field(columns.MODEL, pa.string(), nullable=False),
    pa.field(columns.RUN_ID, pa.string(), nullable=False),
)

LOOK_FIELDS = (
    pa.field(columns.PERCEPTUAL_HASH, pa.string()),
    pa.field(columns.SHARPNESS, pa.float64()),
)

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
"""Put before a metadata column whose name the statistics use themselves."""


def statistics_table(
    segmented: Sequence[Segmented],
    classes: ClassTable,
    model: str,
    run_id: str,
    merged: MergedClasses | None = None,
) -> pa.Table:
    """The statistics rows of segmented images, in the columns of the output contract.

    With `merged`, the pixels of each merged class stand behind those of the classes. Mean
    confidences follow where the images have them, then the projection, then solid angles where
    there are panoramas, then looks where there was a gate; their names are kept for them
    everywhere, so that a column means the same in all files.
    """
    pixel_names = [columns.PIXELS_PREFIX + key for key in classes.keys]
    merged_names = [columns.MERGED_PREFIX + key for key in merged.keys] if merged else []
    fields = [
        *ROW_FIELDS,
        *(pa.field(n, pa.int64(), nullable=False) for n in pixel_names + merged_names),
    ]
    confidence_names = [
        columns.CONFIDENCE,
        *(columns.CONFIDENCE_PREFIX + key for key in classes.keys),
    ]
    unknown = (None,) * len(confidence_names)
    if any(item.confidence for item in segmented):
        fields += [pa.field(name, pa.float64()) for name in confidence_names]
    fields.append(pa.field(columns.PROJECTION, pa.string(), nullable=False))
    sphere_names = [
        *(columns.SOLID_ANGLE_PREFIX + key for key in classes.keys),
        columns.SKY_VIEW_FACTOR,
    ]
    flat = (None,) * len(sphere_names)
    if any(item.on_sphere for item in segmented):
        fields += [pa.field(name, pa.float64()) for name in sphere_names]
    if any(item.planned.look for item in segmented):
        fields += LOOK_FIELDS
    fields.append(pa.field(columns.GROUP, pa.string(), nullable=False))
    rows = []
    for item in segmented:
        ref, look = item.planned.ref, item.planned.look
        capture, confidence = item.capture, item.confidence
        means = (confidence.mean, *confidence.classes) if confidence else unknown
        sphere = item.on_sphere
        angles = (*sphere.solid_angles, sphere.sky_view_factor) if sphere else flat
        projection = Projection.EQUIRECTANGULAR if sphere else Projection.PERSPECTIVE
        rows.append(
            {
                columns.IMAGE: ref.image,
                columns.URI: ref.uri,
                columns.VERSION: ref.version,
                columns.WIDTH: item.width,
                columns.HEIGHT: item.height,
                columns.LATITUDE: capture.latitude,
                columns.LONGITUDE: capture.longitude,
                columns.CAPTURED_AT: capture.captured_at,
                columns.HEADING: capture.heading,
                columns.MASK: item.planned.mask,
                columns.MODEL: model,
                columns.RUN_ID: run_id,
                columns.GROUP: ref.group,
                **dict(zip(pixel_names, item.pixels, strict=True)),
                **dict(zip(merged_names, merged.merge(item.pixels) if merged else (), strict=True)),
                **dict(zip(confidence_names, means, strict=True)),
                columns.PROJECTION: projection.value,
                **dict(zip(sphere_names, angles, strict=True)),
                columns.PERCEPTUAL_HASH: look and look.perceptual_hash,
                columns.SHARPNESS: look and look.sharpness,
            }
        )
    table = pa.Table.from_pylist(rows, pa.schema(fields))
    extras = _extra_arrays([item.planned.ref.extra for item in segmented])
    look_names = [field.name for field in LOOK_FIELDS]
    taken = {*table.column_names, *confidence_names, *sphere_names, *look_names}
    for name, array in extras.items():
        column = name
        while column in taken or (column != name and column in extras):
            column = EXTRA_PREFIX + column
        taken.add(column)
        table = table.append_column(column, array)
    return table


def failure_table(failures: Sequence[Failure], run_id: str) -> pa.Table:
    """The failure rows of images, in the columns of the output contract.

    What could not be written is no attempt that counts: a disk that is full for some nights must
    not bring good photos into quarantine.
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
                columns.ATTEMPTS: failure.planned.attempts + (failure.stage != columns.WRITE),
                columns.RUN_ID: run_id,
            }
            for failure in failures
        ],
        FAILURE_SCHEMA,
    )


def _extra_arrays(extras: Sequence[tuple[ExtraColumn, ...]]) -> dict[str, pa.Array]:
    """Extra columns by name over rows that may each have others.

    Whole numbers among fractions become fractions; what is mixed otherwise becomes text.
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
