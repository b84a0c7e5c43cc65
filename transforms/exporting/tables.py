"""Tables: the rows of an export, with all stored columns and the derived measures."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from operator import methodcaller
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.indicators import Indicators
from transforms.exporting.parts import base64_text, is_bytes
from transforms.measures.deriving import derive, distinct_names
from transforms.measures.positions import has_position
from transforms.output import columns
from transforms.output.archives import Archive

GEOMETRY = "geometry"

_POINT = np.dtype([("order", "u1"), ("kind", "<u4"), ("x", "<f8"), ("y", "<f8")])
_LITTLE_ENDIAN, _POINT_KIND = 1, 1
"""Of well-known binary, OGC 06-103r4, section 8.2."""


def derived_table(table: pa.Table, archive: Archive, indicators: Indicators) -> pa.Table:
    """Statistics rows with shares and indicators behind them, and no column called `geometry`."""
    table = derive(table, archive.classes, indicators)
    return table.rename_columns(distinct_names(table.column_names, [GEOMETRY]))


def points(table: pa.Table) -> pa.Array:
    """The position of each photo as a point in well-known binary; null without one."""
    shapes = np.empty(len(table), _POINT)
    shapes["order"], shapes["kind"] = _LITTLE_ENDIAN, _POINT_KIND
    shapes["x"] = table[columns.LONGITUDE].to_numpy()
    shapes["y"] = table[columns.LATITUDE].to_numpy()
    there = np.packbits(has_position(table).to_numpy(), bitorder="little")
    fixed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(_POINT.itemsize), len(table), [pa.py_buffer(there), pa.py_buffer(shapes)]
    )
    return fixed.cast(pa.binary())


def geo_metadata() -> dict[bytes, bytes]:
    """The file metadata of GeoParquet 1.1, https://geoparquet.org/releases/v1.1.0.

    It names no coordinate reference system: the default is OGC:CRS84, WGS 84 with the longitude
    first, as in `points`.
    """
    column = {"encoding": "WKB", "geometry_types": ["Point"]}
    document = {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}
    return {b"geo": json.dumps(document).encode()}


def json_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows as JSON holds them.

    Times are in ISO 8601, durations in seconds, bytes in Base64; numbers that are not finite are
    null.
    """
    ready = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_finite(column), column, None)
        values = column.to_pylist()
        convert = _json_form(column.type)
        ready[name] = [None if v is None else convert(v) for v in values] if convert else values
    for values in zip(*ready.values(), strict=True):
        yield dict(zip(ready, values, strict=True))


def _json_form(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """What makes a value of a type one that JSON has; None if it is one."""
    if pa.types.is_duration(kind):
        return timedelta.total_seconds
    if pa.types.is_temporal(kind):
        return methodcaller("isoformat")
    if pa.types.is_decimal(kind):
        return str
    if pa.types.is_nested(kind):
        return partial(json.dumps, default=str, ensure_ascii=False)
    return base64_text if is_bytes(kind) else None
