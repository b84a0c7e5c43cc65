"""Manifests: lists of image URIs, with metadata in further columns."""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from transforms import storage
from transforms.flow.positions import parse_heading, parse_position
from transforms.flow.records import UNKNOWN_CAPTURE, Capture, ExtraColumn
from transforms.flow.times import parse_time
from transforms.inputs import tables
from transforms.inputs.tables import ManifestError
from transforms.output import columns

__all__ = [
    "CAPTURE_COLUMNS",
    "EXTENSIONS",
    "ManifestEntry",
    "ManifestError",
    "Metadata",
    "check",
    "is_manifest",
    "metadata_of",
    "read_manifest",
    "relative_to",
    "resolve",
    "types_of",
]

logger = logging.getLogger(__name__)

EXTENSIONS = (".csv", ".parquet", ".txt")
CAPTURE_COLUMNS = (columns.LATITUDE, columns.LONGITUDE, columns.CAPTURED_AT, columns.HEADING)

KNOWN = (columns.URI, columns.GROUP, *CAPTURE_COLUMNS)
"""The columns that are interpreted; their names may have any case and blanks around them."""

LIKELY = {
    columns.URI: ("url", "path", "file", "filename", "file_name", "image"),
    columns.LATITUDE: ("lat",),
    columns.LONGITUDE: ("lon", "lng", "long"),
    columns.CAPTURED_AT: ("time", "date", "datetime", "timestamp", "capture_time"),
    columns.HEADING: ("compass_angle", "bearing", "direction", "azimuth"),
}
"""Names that others give to these columns. They are kept as they are, and a warning says so."""

NO_VALUE = frozenset(("None", "none", "-", *pyarrow.csv.ConvertOptions().null_values))
"""Texts for a value that is not there."""


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


def is_manifest(path: str) -> bool:
    """Whether a file is a manifest, by its name."""
    return path.lower().endswith(EXTENSIONS)


def check(path: str) -> None:
    """Read a manifest to its end, without making anything of it.

    Raises:
        ManifestError: see `read_manifest`.
    """
    for _ in tables.read_lines(path) if _is_list(path) else _batches(path):
        pass


def read_manifest(path: str) -> Iterator[ManifestEntry]:
    """Read a CSV or Parquet file with a `uri` column, or a text file with a URI per line.

    The columns `latitude, longitude, captured_at, heading, group` are understood; all others are
    kept with their type: nested ones as JSON text, times to the microsecond. In a CSV file a column
    has the type that all its values fit; one with a value such as 00123 stays text.

    At its end, what was not understood is logged as a warning.

    Raises:
        ManifestError: the file cannot be read or would fill the memory, it has no `uri` column, or
            one of the known columns stands twice.
    """
    if _is_list(path):
        for line in tables.read_lines(path):
            if (uri := line.rstrip("\r\n")).strip():
                yield ManifestEntry(uri)
        return
    unclear = _Unclear()
    for batch in _batches(path, unclear):
        table = tables.rows_of(batch)
        unclear.lost.update(table.lost)
        types = {name: kind for name, kind in table.types.items() if name not in KNOWN}
        for row in table.rows:
            uri = row.pop(columns.URI)
            uri = os.fsdecode(uri) if isinstance(uri, bytes) else str(uri or "")
            if uri := uri.strip():
                metadata = metadata_of(row, types)
                unclear.compare(row, metadata.capture)
                yield ManifestEntry(uri, metadata)
            else:
                unclear.without_uri += 1
    for line in unclear.lines():
        logger.warning("%s: %s", path, line)


def metadata_of(row: dict[str, Any], types: dict[str, pa.DataType]) -> Metadata:
    """Sort a metadata row into capture, group and extra columns.

    Args:
        row: values by column name; unknown or impossible captures (a latitude of 91) become None.
        types: the extra columns to keep, with their Arrow types.
    """
    known = _known(row)
    group = known.get(columns.GROUP)
    return Metadata(
        Capture.at(
            parse_position(known.get(columns.LATITUDE), known.get(columns.LONGITUDE)),
            parse_time(known.get(columns.CAPTURED_AT)),
            parse_heading(known.get(columns.HEADING)),
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
        if value is not None and _called(name) not in (columns.GROUP, *CAPTURE_COLUMNS)
    }


def _is_list(path: str) -> bool:
    return path.lower().endswith(".txt")


def _called(name: str) -> str:
    """What a column is called here: a known one by its own name, whatever its case and blanks."""
    if name in KNOWN:
        return name
    plain = name.strip(" \t\u00a0\ufeff").lower()
    return plain if plain in KNOWN else name


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    """The known values of a row; of two with the same name, the one that is written exactly."""
    known: dict[str, Any] = {}
    for name, value in row.items():
        called = _called(name)
        if called == name or called not in row:
            known[called] = value
    return known


@dataclass
class _Unclear:
    """What of a table was not understood, for the user.

    Attributes:
        hints: what its columns may mean.
        values: values that are neither understood nor empty, by what they should be.
        examples: the first of each.
        lost: values that are left empty, by column.
        without_uri: rows that name no image.
    """

    hints: list[str] = field(default_factory=list)
    values: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)
    without_uri: int = 0

    def compare(self, row: Mapping[str, Any], capture: Capture) -> None:
        """Note the values of a row that its capture lacks."""
        position = (columns.LATITUDE, columns.LONGITUDE)
        self._note("a position", row, position, capture.position)
        self._note("a time", row, (columns.CAPTURED_AT,), capture.captured_at)
        self._note("a heading", row, (columns.HEADING,), capture.heading)

    def _note(self, what: str, row: Mapping[str, Any], names: Sequence[str], found: Any) -> None:
        if found is not None:
            return
        written = [(name, row.get(name)) for name in names]
        if all(value is None or str(value).strip() in NO_VALUE for _, value in written):
            return
        self.values[what] += 1
        if what not in self.examples:
            shown = ", ".join(f"{name} {_shown(value)}" for name, value in written)
            self.examples[what] = shown

    def lines(self) -> Iterator[str]:
        """A line for each kind of doubt."""
        yield from self.hints
        for what, count in self.values.items():
            yield f"not understood as {what} in {count} rows, such as {self.examples[what]}"
        for name, count in self.lost.items():
            yield f"{count} values of the column {_shown(name)} cannot be kept and are left empty"
        if self.without_uri:
            yield f"{self.without_uri} rows without a uri are left out"


def _shown(value: Any) -> str:
    return "empty" if value is None else repr(tables.printable(str(value)))


def _batches(path: str, unclear: _Unclear | None = None) -> Iterator[pa.RecordBatch]:
    def check(header: Sequence[str]) -> list[str]:
        called = [_called(name) for name in header]
        twice = [name for name, count in Counter(called).items() if count > 1]
        if columns.URI not in called:
            meant = [name for name in header if name.strip().lower() in LIKELY[columns.URI]]
            hint = f"; if that is {_shown(meant[0])}, call it {columns.URI}" if meant else ""
            raise ManifestError(
                f"{path}: found the columns {tables.listed(header)}; a manifest needs a column "
                f"{columns.URI!r} with the path or URI of each image{hint}"
            )
        for name in twice:
            if name in KNOWN:
                raise ManifestError(
                    f"{path}: the column {name!r} stands twice (found {tables.listed(header)}); "
                    "remove or rename one of them"
                )
        if unclear:
            unclear.hints += _hints(called, twice)
        return called

    return tables.read_batches(path, check, KNOWN)


def _hints(called: Sequence[str], twice: Sequence[str]) -> Iterator[str]:
    """What the names of columns may be meant to say."""
    for name in twice:
        yield f"the column {_shown(name)} stands twice; the first is kept"
    for known, others in LIKELY.items():
        for name in called:
            if known not in called and name.strip().lower() in others:
                yield (
                    f"the column {_shown(name)} is kept but not interpreted; "
                    f"if it is meant, call it {known}"
                )


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
        value = _valid_text(_json(value) if isinstance(value, (bool, list, dict)) else value)
    return ExtraColumn(_valid_text(name), str(kind), value)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, default=str, ensure_ascii=False)
    except RecursionError:
        return "nested too deeply"


def _valid_text(value: Any) -> str:
    """The value as text that Parquet can hold; JSON and shards may contain invalid UTF-8."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _is_too_large(value: Any) -> bool:
    return isinstance(value, int) and not -(1 << 63) <= value < 1 << 63


def resolve(uri: str, manifest: str) -> str:
    """The path of an image in a manifest; relative ones start at the manifest's folder.

    Raises:
        StorageError: the URI stands for no path here, see `storage.path_of`.
    """
    return storage.beside(storage.path_of(uri), manifest)


def relative_to(uri: str, manifest: str) -> str:
    """The path that names an image of a manifest: relative to the manifest's folder if below it.

    Otherwise it is the whole path, without the scheme.
    """
    path, folder = (Path(name.rpartition(storage.SEPARATOR)[2]) for name in (uri, manifest))
    same_kind = storage.store_of(uri).local_paths == storage.store_of(manifest).local_paths
    below = same_kind and path.is_relative_to(folder.parent)
    return str(path.relative_to(folder.parent) if below else path)
