"""Manifests: lists of image URIs, with metadata in further columns."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from transforms import storage
from transforms.flow.positions import parse_heading, parse_position
from transforms.flow.records import UNKNOWN_CAPTURE, Capture, ExtraColumn
from transforms.flow.times import parse_time
from transforms.output import columns

EXTENSIONS = (".csv", ".parquet", ".txt")
CAPTURE_COLUMNS = (columns.LATITUDE, columns.LONGITUDE, columns.CAPTURED_AT, columns.HEADING)

_NOT_A_NUMBER = r"^[-+]?0[0-9]|^\+|^[-+]?[0-9]{19,}$"
"""Digits that a number would not keep: leading zeros, a plus sign, more than an int64 holds."""


class ManifestError(ValueError):
    """A manifest cannot be read or has no `uri` column; the message names the file."""


@dataclass(frozen=True)
class Metadata:
    """Metadata of an image from a manifest row or a shard."""

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
    kept with their type: nested ones as JSON text, times to the microsecond. In a CSV file a column
    has the type that all its values fit; one with a value such as 00123 stays text.

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
        for row in _to_rows(batch, path):
            uri = row.pop(columns.URI)
            uri = os.fsdecode(uri) if isinstance(uri, bytes) else str(uri or "")
            if uri := uri.strip():
                yield ManifestEntry(uri, metadata_of(row, types))


def metadata_of(row: dict[str, Any], types: dict[str, pa.DataType]) -> Metadata:
    """Sort a metadata row into capture, group and extra columns.

    Args:
        row: values by column name; unknown or impossible captures (a latitude of 91) become None.
        types: the extra columns to keep, with their Arrow types.
    """
    group = row.get(columns.GROUP)
    return Metadata(
        Capture.at(
            parse_position(row.get(columns.LATITUDE), row.get(columns.LONGITUDE)),
            parse_time(row.get(columns.CAPTURED_AT)),
            parse_heading(row.get(columns.HEADING)),
        ),
        group=None if group is None or group == "" else _valid_text(group),
        extra=tuple(_extra(name, kind, row.get(name)) for name, kind in types.items()),
    )


def types_of(row: dict[str, Any]) -> dict[str, pa.DataType]:
    """Arrow types for the extra values of a JSON object: whole numbers, numbers, flags or text."""
    kinds: dict[type, pa.DataType] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    return {
        name: pa.string() if _is_too_large(value) else kinds.get(type(value), pa.string())
        for name, value in row.items()
        if value is not None and name not in (columns.GROUP, *CAPTURE_COLUMNS)
    }


def _read_list(path: str) -> Iterator[ManifestEntry]:
    try:
        with TextIOWrapper(storage.open_file(path), "utf-8-sig", "surrogateescape") as lines:
            for line in lines:
                if (uri := line.rstrip("\r\n")).strip():
                    yield ManifestEntry(uri)
    except storage.StorageError as error:
        raise ManifestError(f"{path}: {error}") from error


def _batches(path: str) -> Iterator[pa.RecordBatch]:
    try:
        if path.lower().endswith(".csv"):
            source = _read_csv(path)
            names, batches = source.column_names, source.to_batches()
        else:
            file = pyarrow.parquet.ParquetFile(storage.open_file(path))
            names, batches = file.schema_arrow.names, file.iter_batches()
        if columns.URI not in names:
            raise ManifestError(
                f"{path}: found the columns {', '.join(names)}; a manifest needs a column "
                f"{columns.URI!r} with the path or URI of each image"
            )
        yield from map(_with_python_times, batches)
    except (pa.ArrowException, OSError, UnicodeDecodeError, storage.StorageError) as error:
        raise _unreadable(path, error) from error


def _read_csv(path: str) -> pa.Table:
    """The whole file at once, so that a column has one type from the first row to the last."""
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    texts = dict.fromkeys((columns.URI, columns.GROUP), pa.string())
    options = pyarrow.csv.ConvertOptions(column_types=texts)
    data = storage.read(path)
    table = pyarrow.csv.read_csv(BytesIO(data), parse_options=parsing, convert_options=options)
    numbers = [
        entry.name
        for entry in table.schema
        if (pa.types.is_integer(entry.type) or pa.types.is_floating(entry.type))
        and entry.name not in CAPTURE_COLUMNS
        and table.column_names.count(entry.name) == 1
    ]
    if not numbers:
        return table
    options = pyarrow.csv.ConvertOptions(
        include_columns=numbers, column_types=dict.fromkeys(numbers, pa.string())
    )
    written = pyarrow.csv.read_csv(BytesIO(data), parse_options=parsing, convert_options=options)
    for name in numbers:
        if pc.any(pc.match_substring_regex(written[name], _NOT_A_NUMBER)).as_py():
            table = table.set_column(table.column_names.index(name), name, written[name])
    return table


def _with_python_times(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with its nanoseconds cut to microseconds: Python's own times hold no more."""
    for index, entry in enumerate(batch.schema):
        kind = entry.type
        if pa.types.is_timestamp(kind) and kind.unit == "ns":
            kind = pa.timestamp("us", kind.tz)
        elif pa.types.is_time64(kind):
            kind = pa.time64("us")
        elif pa.types.is_duration(kind) and kind.unit == "ns":
            kind = pa.duration("us")
        if kind != entry.type:
            batch = batch.set_column(index, entry.name, batch.column(index).cast(kind, safe=False))
    return batch


def _to_rows(batch: pa.RecordBatch, path: str) -> list[dict[str, Any]]:
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError) as error:  # Such as a time after the year 9999.
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> ManifestError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ManifestError(f"{path}: not a readable manifest: {reason}")


def _extra(name: str, kind: pa.DataType, value: Any) -> ExtraColumn:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    try:
        pa.type_for_alias(str(kind))
    except ValueError:  # Nested, decimal, with zone, ...: as text.
        kind = pa.string()
    if pa.types.is_null(kind):
        kind = pa.string()
    if pa.types.is_string(kind) and value is not None:
        if isinstance(value, (bool, list, dict)):
            value = json.dumps(value, default=str, ensure_ascii=False)
        value = _valid_text(value)
    return ExtraColumn(_valid_text(name), str(kind), value)


def _valid_text(value: Any) -> str:
    """The value as text that Parquet can hold; JSON and shards may contain invalid UTF-8."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _is_too_large(value: Any) -> bool:
    return isinstance(value, int) and not -(1 << 63) <= value < 1 << 63


def resolve(uri: str, manifest: str) -> str:
    """The path of an image in a manifest; relative ones start at the manifest's folder."""
    return storage.beside(uri.removeprefix("file://"), manifest)


def relative_to(uri: str, manifest: str) -> str:
    """The path that names an image of a manifest: relative to the manifest's folder if below it.

    Otherwise it is the whole path, without the scheme.
    """
    path, folder = (Path(name.rpartition(storage.SEPARATOR)[2]) for name in (uri, manifest))
    same_kind = storage.store_of(uri).local_paths == storage.store_of(manifest).local_paths
    below = same_kind and path.is_relative_to(folder.parent)
    return str(path.relative_to(folder.parent) if below else path)
