"""Manifests: lists of image URIs, with what is known of each image in further columns."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from transforms import columns
from transforms.records import UNKNOWN_CAPTURE, Capture, ExtraColumn

EXTENSIONS = (".csv", ".parquet", ".txt")
CAPTURE_COLUMNS = (columns.LATITUDE, columns.LONGITUDE, columns.CAPTURED_AT, columns.HEADING)


class ManifestError(ValueError):
    """A manifest cannot be read or has no `uri` column; the message names the file."""


@dataclass(frozen=True)
class Metadata:
    """What a manifest row or a shard's metadata says of an image."""

    capture: Capture = UNKNOWN_CAPTURE
    group: str | None = None
    extra: tuple[ExtraColumn, ...] = ()


@dataclass(frozen=True)
class ManifestEntry:
    """One row of a manifest: the URI as written there and the metadata beside it."""

    uri: str
    metadata: Metadata = field(default_factory=Metadata)


def read_manifest(path: str) -> Iterator[ManifestEntry]:
    """Read a CSV or Parquet file with a `uri` column, or a text file with a URI per line.

    The columns `latitude, longitude, captured_at, heading, group` are understood; all others are
    kept with their type (nested ones as JSON text).

    Raises:
        ManifestError: the file cannot be read, or it has no `uri` column.
    """
    if path.lower().endswith(".txt"):
        yield from _read_list(path)
        return
    for batch in _batches(path):
        types = {
            entry.name: entry.type
            for entry in batch.schema
            if entry.name not in (columns.URI, columns.GROUP, *CAPTURE_COLUMNS)
        }
        for row in batch.to_pylist():
            uri = row.pop(columns.URI)
            if uri is not None and str(uri).strip():
                yield ManifestEntry(str(uri).strip(), metadata_of(row, types))


def metadata_of(row: dict[str, Any], types: dict[str, pa.DataType]) -> Metadata:
    """Sort a metadata row into capture, group and extra columns.

    Args:
        row: values by column name; unknown or impossible captures (a latitude of 91) become None.
        types: the extra columns to keep, with their Arrow types.
    """
    group = row.get(columns.GROUP)
    return Metadata(
        Capture(
            latitude=_number(row.get(columns.LATITUDE), -90, 90),
            longitude=_number(row.get(columns.LONGITUDE), -180, 180),
            captured_at=parse_time(row.get(columns.CAPTURED_AT)),
            heading=_heading(row.get(columns.HEADING)),
        ),
        group=None if group is None or group == "" else str(group),
        extra=tuple(_extra(name, kind, row.get(name)) for name, kind in types.items()),
    )


def types_of(row: dict[str, Any]) -> dict[str, pa.DataType]:
    """Arrow types for the extra values of a JSON object: whole numbers, numbers, flags or text."""
    kinds: dict[type, pa.DataType] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    return {
        name: kinds.get(type(value), pa.string())
        for name, value in row.items()
        if value is not None and name not in (columns.GROUP, *CAPTURE_COLUMNS)
    }


def parse_time(value: Any) -> datetime | None:
    """A time without zone: ISO 8601 text, a date, or Unix seconds or milliseconds.

    Times with an offset and Unix times become UTC; the others stay as they are. What is none of
    these is None.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        except ValueError:
            return None
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    if isinstance(value, (int, float)) and math.isfinite(value):
        seconds = value / 1000 if abs(value) > 1e11 else value
        try:
            return datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None)
        except (ValueError, OverflowError, OSError):
            return None
    return None


def _read_list(path: str) -> Iterator[ManifestEntry]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as lines:
            for line in lines:
                if uri := line.rstrip("\r\n"):
                    yield ManifestEntry(uri)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from error


def _batches(path: str) -> Iterator[pa.RecordBatch]:
    try:
        if path.lower().endswith(".csv"):
            # The whole file at once, so that a column has one type from the first row to the last.
            source = pyarrow.csv.read_csv(path)
            names, batches = source.column_names, source.to_batches()
        else:
            file = pyarrow.parquet.ParquetFile(path)
            names, batches = file.schema_arrow.names, file.iter_batches()
        if columns.URI not in names:
            raise ManifestError(
                f"{path}: found the columns {', '.join(names)}; a manifest needs a column "
                f"{columns.URI!r} with the path or URI of each image"
            )
        yield from batches
    except (pa.ArrowException, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ManifestError(f"{path}: not a readable manifest: {reason}") from error


def _extra(name: str, kind: pa.DataType, value: Any) -> ExtraColumn:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    try:
        pa.type_for_alias(str(kind))
    except ValueError:  # Nested, decimal, with zone, ...: as text.
        kind = pa.string()
    if pa.types.is_null(kind):
        kind = pa.string()
    if pa.types.is_string(kind) and value is not None and not isinstance(value, str):
        value = json.dumps(value, default=str, ensure_ascii=False)
    return ExtraColumn(name, str(kind), value)


def _number(value: Any, lowest: float, highest: float) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if lowest <= number <= highest else None


def _heading(value: Any) -> float | None:
    number = _number(value, -360, 360)
    return None if number is None else number % 360


def relative_to(uri: str, manifest: str) -> str:
    """The path of a manifest's image that names it: relative to the manifest's folder if below it.

    Elsewhere it is the whole path, without the scheme.
    """
    path, folder = Path(uri), Path(manifest).parent
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)
