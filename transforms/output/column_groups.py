"""Column groups: the columns of a statistics row, and how their values are computed.

A group holds the columns of one output of an image, and a function that takes their values from a
`Segmented`. A new output per photo gets its own group here; see docs/extending.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from models.classes import ClassTable
from models.merging import MergedClasses
from transforms.flow.records import Projection, Segmented
from transforms.output import columns, names

PHOTO_FIELDS = (
    pa.field(columns.IMAGE, pa.string(), nullable=False),
    pa.field(columns.URI, pa.string(), nullable=False),
    pa.field(columns.VERSION, pa.string(), nullable=False),
    pa.field(columns.WIDTH, pa.int64(), nullable=False),
    pa.field(columns.HEIGHT, pa.int64(), nullable=False),
)

CAPTURE_FIELDS = (
    pa.field(columns.LATITUDE, pa.float64()),
    pa.field(columns.LONGITUDE, pa.float64()),
    pa.field(columns.CAPTURED_AT, pa.timestamp("us")),
    pa.field(columns.HEADING, pa.float64()),
)

RESULT_FIELDS = (
    pa.field(columns.MASK, pa.string(), nullable=False),
    pa.field(columns.MODEL, pa.string(), nullable=False),
    pa.field(columns.RUN_ID, pa.string(), nullable=False),
)

ROW_FIELDS = (*PHOTO_FIELDS, *CAPTURE_FIELDS, *RESULT_FIELDS)
"""The first columns of every row; the same for all models."""

LOOK_FIELDS = (
    pa.field(columns.PERCEPTUAL_HASH, pa.string()),
    pa.field(columns.SHARPNESS, pa.float64()),
)


@dataclass(frozen=True)
class ColumnGroup:
    """Columns of a statistics row that belong together.

    Attributes:
        fields: the columns, in their order.
        values_of: the values of these columns for an image, or None if it has none. They are then
            null; if no image of a file has values, the file lacks the columns.
    """

    fields: tuple[pa.Field, ...]
    values_of: Callable[[Segmented], Sequence[Any] | None]

    def arrays(self, segmented: Sequence[Segmented]) -> list[pa.Array]:
        """An array per column, or no arrays if no image has values."""
        found = [self.values_of(item) for item in segmented]
        if all(values is None for values in found):
            return []
        nulls = (None,) * len(self.fields)
        by_column = zip(*(nulls if values is None else values for values in found), strict=True)
        return [
            pa.array(values, field.type)
            for field, values in zip(self.fields, by_column, strict=True)
        ]


def column_groups(
    classes: ClassTable, model: str, run_id: str, merged: MergedClasses | None = None
) -> tuple[ColumnGroup, ...]:
    """The groups of the rows of a run, in the order of their columns.

    Args:
        classes: the model's classes.
        model: the `model_id`.
        run_id: the run.
        merged: optional class mapping.
    """
    return (
        ColumnGroup(PHOTO_FIELDS, _photo),
        ColumnGroup(CAPTURE_FIELDS, _capture),
        ColumnGroup(RESULT_FIELDS, lambda item: (item.planned.mask, model, run_id)),
        ColumnGroup(
            (pa.field(columns.PRECISION, pa.string(), nullable=False),),
            lambda item: (item.precision.value,),
        ),
        ColumnGroup(
            _fields(columns.PIXELS_PREFIX, classes.keys, pa.int64(), nullable=False),
            lambda item: item.pixels,
        ),
        *([_merged_classes(merged)] if merged else []),
        ColumnGroup(
            (
                pa.field(columns.CONFIDENCE, pa.float64()),
                *_fields(columns.CONFIDENCE_PREFIX, classes.keys, pa.float64()),
            ),
            _confidence,
        ),
        ColumnGroup(
            (
                pa.field(columns.UNCERTAINTY, pa.float64()),
                pa.field(columns.UNLIKE_TRAINING, pa.bool_()),
            ),
            _uncertainty,
        ),
        ColumnGroup((pa.field(columns.PROJECTION, pa.string(), nullable=False),), _projection),
        ColumnGroup(
            (
                *_fields(columns.SOLID_ANGLE_PREFIX, classes.keys, pa.float64()),
                pa.field(columns.SKY_VIEW_FACTOR, pa.float64()),
            ),
            _on_sphere,
        ),
        ColumnGroup(LOOK_FIELDS, _look),
        ColumnGroup(
            (pa.field(columns.GROUP, pa.string(), nullable=False),),
            lambda item: (item.planned.ref.group,),
        ),
    )


def _photo(item: Segmented) -> Sequence[Any]:
    ref = item.planned.ref
    return ref.image, ref.uri, ref.version, item.width, item.height


def _capture(item: Segmented) -> Sequence[Any]:
    capture = item.capture
    return capture.latitude, capture.longitude, capture.captured_at, capture.heading


def _merged_classes(merged: MergedClasses) -> ColumnGroup:
    fields = _fields(columns.MERGED_PREFIX, merged.keys, pa.int64(), nullable=False)
    return ColumnGroup(fields, lambda item: merged.merge(item.pixels))


def _confidence(item: Segmented) -> Sequence[Any] | None:
    found = item.values.get(names.CONFIDENCE)
    return (found.mean, *found.classes) if found else None


def _uncertainty(item: Segmented) -> Sequence[Any] | None:
    found = item.uncertainty
    return (found.entropy, found.is_unlike) if found else None


def _projection(item: Segmented) -> Sequence[Any]:
    projection = Projection.EQUIRECTANGULAR if item.on_sphere else Projection.PERSPECTIVE
    return (projection.value,)


def _on_sphere(item: Segmented) -> Sequence[Any] | None:
    found = item.on_sphere
    return (*found.solid_angles, found.sky_view_factor) if found else None


def _look(item: Segmented) -> Sequence[Any] | None:
    look = item.planned.look
    return (look.perceptual_hash, look.sharpness) if look else None


def _fields(
    prefix: str, keys: Sequence[str], kind: pa.DataType, nullable: bool = True
) -> tuple[pa.Field, ...]:
    return tuple(pa.field(prefix + key, kind, nullable=nullable) for key in keys)
