"""Tables: reads the CSV and Parquet files of manifests, within limits.

A small file must not fill the memory. What it unpacks to is counted before Python objects are made
of it, and dictionary-encoded values, which a few bytes repeat without end, stay encoded until then.
"""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from transforms import storage
from transforms.inputs.parquet_pages import (
    DICTIONARY,
    ENCODINGS,
    LENGTHS,
    SHARED_PREFIXES,
    read_pages,
)
from transforms.output import names

MOST_COLUMNS = 2000
MOST_LINE = 1 << 20
"""Bytes of a line. Longer ones are of another kind of file."""

MOST_FIXED = 1 << 12
"""Bytes of a Parquet value of fixed length."""

FREE_BYTES = 16 << 20
MOST_RATIO = 100
CELL_BYTES = 16
"""A Parquet file may unpack to `FREE_BYTES`, and `MOST_RATIO` times its own size; each value counts
`CELL_BYTES` beside its own. Real manifests have a ratio below 40."""

SMALL_FILE = 32 << 20
"""Bytes of a Parquet file that is read at once, and whose pages are looked at first."""

ROWS_AT_ONCE = 8192
SHOWN = 20
"""Most columns that a message names."""

SHOWN_CHARACTERS = 300

SEPARATORS = ",;\t"

_NOT_A_NUMBER = r"^[-+]?0[0-9]|^\+|^[-+]?[0-9]{19,}$"
"""Digits that a number would not keep: leading zeros, a plus sign, more than an int64 holds."""

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")

Check = Callable[[Sequence[str]], list[str]]
"""Says what the columns of a file are called here; raises ManifestError if they will not do."""


class ManifestError(ValueError):
    """A manifest cannot be read or has no `uri` column; the message names the file."""


@dataclass(frozen=True)
class Rows:
    """Some rows of a table.

    Attributes:
        types: the Arrow type of each column.
        rows: the values by column.
        lost: values that Python cannot hold, such as a time after the year 9999, by column; in the
            rows they are None.
    """

    types: dict[str, pa.DataType]
    rows: list[dict[str, Any]]
    lost: Counter[str]


def read_batches(path: str, check: Check, texts: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a CSV or Parquet file, as many at a time as memory allows.

    Args:
        path: where it is; the name says what it is.
        check: called with its columns.
        texts: columns of a CSV file that stay text, by the names that `check` returns.

    Raises:
        ManifestError: the file cannot be read, or would fill the memory.
    """
    with explained(path):
        if path.lower().endswith(".csv"):
            yield from _csv_batches(path, check, texts)
        else:
            yield from _parquet_batches(path, check)


def rows_of(batch: pa.RecordBatch) -> Rows:
    """The rows as Python values; nanoseconds are cut to microseconds."""
    columns = [_with_python_times(column) for column in batch.columns]
    values = [_python_values(column) for column in columns]
    lost = Counter(
        {
            name: of_column.count(None) - column.null_count
            for name, column, of_column in zip(batch.schema.names, columns, values, strict=True)
        }
    )
    return Rows(
        {name: column.type for name, column in zip(batch.schema.names, columns, strict=True)},
        [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*values, strict=True)],
        +lost,
    )


def read_lines(path: str) -> Iterator[str]:
    """The lines of a text file in UTF-8 or UTF-16; other bytes of UTF-8 files are surrogates.

    Raises:
        ManifestError: the file cannot be read, or has a line of more than `MOST_LINE`.
    """
    with explained(path), storage.open_file(path) as file:
        encoding = "utf-16" if file.read(2) in _UTF_16 else "utf-8-sig"
        file.seek(0)
        errors = "strict" if encoding == "utf-16" else "surrogateescape"
        with TextIOWrapper(file, encoding, errors) as lines:
            number = 0
            while line := lines.readline(MOST_LINE):
                number += 1
                if len(line) == MOST_LINE:
                    raise _too_long(path, number)
                yield line


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Context manager: whatever damaged files make of pyarrow becomes a ManifestError."""
    try:
        yield
    except ManifestError:
        raise
    except storage.StorageError as error:
        raise ManifestError(f"{path}: {printable(str(error))}") from error
    except Exception as error:  # pyarrow raises many types, also such as IndexError.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = "; save it as UTF-8" if "UTF8" in reason else ""
        raise ManifestError(
            f"{path}: not a readable manifest: {printable(reason)}{hint}"
        ) from error


def printable(text: str) -> str:
    """A stranger's text for a message: without control characters, and not too long."""
    text = names.printable(text)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def listed(found: Sequence[str]) -> str:
    """Column names for a message."""
    more = f", ... ({len(found)} columns)" if len(found) > SHOWN else ""
    return ", ".join(map(printable, found[:SHOWN])) + more


def _csv_batches(path: str, check: Check, texts: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The whole file at once, so that a column has one type from the first row to the last."""
    data = _read_short_lines(path)
    if data[:2] in _UTF_16:
        data = data.decode("utf-16").encode()
    separator, header, called = _header(path, data, check)
    parsing = pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    kept = {
        written: pa.string() for written, name in zip(header, called, strict=True) if name in texts
    }
    table = pyarrow.csv.read_csv(
        BytesIO(data),
        parse_options=parsing,
        convert_options=pyarrow.csv.ConvertOptions(column_types=kept),
    )
    table = _with_digits_as_written(table, data, parsing)
    yield from _first_of_each(table, called).to_batches(ROWS_AT_ONCE)


def _read_short_lines(path: str) -> bytes:
    """The content of a text file; a long line is noticed before much of it is read."""
    parts = []
    length = 0
    with storage.open_file(path) as file:
        while part := file.read(MOST_LINE):
            parts.append(part)
            before = max(part.find(b"\n"), part.find(b"\r"))
            after = max(part.rfind(b"\n"), part.rfind(b"\r"))
            if length + (len(part) if before < 0 else before) > MOST_LINE:
                raise _too_long(path, b"".join(parts).count(b"\n") + 1)
            length = length + len(part) if after < 0 else len(part) - after - 1
    return b"".join(parts)


def _too_long(path: str, number: int) -> ManifestError:
    return ManifestError(
        f"{path}: not a readable manifest: line {number} is longer than {MOST_LINE} bytes"
    )


def _header(path: str, data: bytes, check: Check) -> tuple[str, list[str], list[str]]:
    """The separator of a CSV file, its columns as written, and what they are called here."""
    start = data[:MOST_LINE].decode("utf-8-sig", "replace")
    refusal = None
    for separator in SEPARATORS:
        rows = csv.reader(StringIO(start, newline=""), delimiter=separator)
        header = next(filter(None, rows), [])
        if not header:
            raise ValueError("Empty CSV file")
        try:
            return separator, header, _checked(path, header, check)
        except ManifestError as error:
            refusal = refusal or error
    assert refusal
    raise refusal


def _with_digits_as_written(
    table: pa.Table, data: bytes, parsing: pyarrow.csv.ParseOptions
) -> pa.Table:
    """The table with columns such as 00123 as text."""
    times = Counter(table.column_names)
    numbers = [
        entry.name
        for entry in table.schema
        if (pa.types.is_integer(entry.type) or pa.types.is_floating(entry.type))
        and times[entry.name] == 1
    ]
    if not numbers:
        return table
    options = pyarrow.csv.ConvertOptions(
        include_columns=numbers, column_types=dict.fromkeys(numbers, pa.string())
    )
    written = pyarrow.csv.read_csv(BytesIO(data), parse_options=parsing, convert_options=options)
    for index, name in enumerate(table.column_names):
        if (
            name in numbers
            and pc.any(pc.match_substring_regex(written[name], _NOT_A_NUMBER)).as_py()
        ):
            table = table.set_column(index, name, written[name])
    return table


def _parquet_batches(path: str, check: Check) -> Iterator[pa.RecordBatch]:
    with storage.open_file(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        data = file.read() if size <= SMALL_FILE else b""
        source = BytesIO(data) if data else file
        allowed = FREE_BYTES + MOST_RATIO * size
        declared = pq.ParquetFile(source)
        called = _checked(path, declared.schema_arrow.names, check)
        if _declared_bytes(declared) > allowed or (data and _page_bytes(declared, data) > allowed):
            raise _too_large(path, allowed)
        encoded, rows = _plan(declared, allowed)
        reader = pq.ParquetFile(source, metadata=declared.metadata, read_dictionary=encoded)
        unpacked = 0
        for batch in reader.iter_batches(rows):
            unpacked += sum(map(_unpacked_bytes, batch.columns))
            if unpacked > allowed:
                raise _too_large(path, allowed)
            types = (_value_type(entry.type) for entry in declared.schema_arrow)
            columns = [_decoded(*pair) for pair in zip(batch.columns, types, strict=True)]
            yield _first_of_each(pa.RecordBatch.from_arrays(columns, called), called)


def _declared_bytes(file: pq.ParquetFile) -> int:
    """What a file says it unpacks to at least.

    Raises:
        ValueError: it says what cannot be.
    """
    chunks = list(_chunks(file))
    cells = file.metadata.num_rows * file.metadata.num_columns
    cells += sum(chunk.num_values for chunk in chunks)
    sizes = [cells, *(chunk.total_uncompressed_size for chunk in chunks)]
    if min(sizes) < 0:
        raise ValueError("sizes below 0")
    longest = max(leaf.length for leaf in map(file.schema.column, range(len(file.schema.names))))
    if longest > MOST_FIXED:
        raise ValueError(f"values of {longest} bytes")
    return sum(sizes[1:]) + CELL_BYTES * cells // 2


def _page_bytes(file: pq.ParquetFile, data: bytes) -> int:
    """What the pages of a file say they unpack to; raises what `read_pages` raises."""
    total = 0
    for chunk in _chunks(file):
        first = chunk.data_page_offset
        if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < first:
            first = chunk.dictionary_page_offset
        said = _encodings(chunk)
        for page in read_pages(data, first, first + chunk.total_compressed_size):
            if page.encoding and page.encoding not in said:
                raise ValueError(f"pages in {page.encoding}, which its metadata do not name")
            total += page.unpacked + CELL_BYTES * page.values // 2
    return total


def _plan(file: pq.ParquetFile, allowed: int) -> tuple[list[str], int]:
    """The columns to read as dictionaries, and how many rows at once.

    Of other columns, a page may stand for far more than its bytes where values share what is stored
    once; then a value is at most as long as its chunk.

    Raises:
        ValueError: what a column stands for cannot be bounded so.
    """
    encodings: dict[str, set[str]] = {}
    longest: Counter[str] = Counter()
    for chunk in _chunks(file):
        path = chunk.path_in_schema
        encodings.setdefault(path, set()).update(_encodings(chunk))
        longest[path] = max(longest[path], chunk.total_uncompressed_size)
    encoded, rows = [], ROWS_AT_ONCE
    for leaf in map(file.schema.column, range(len(file.schema.names))):
        found = encodings.get(leaf.path, set())
        if leaf.physical_type != "BYTE_ARRAY" or found == {LENGTHS}:
            continue
        if found <= {DICTIONARY}:
            encoded.append(leaf.path)
        elif leaf.max_repetition_level:
            raise ValueError(f"lists in {SHARED_PREFIXES}; write {leaf.path} in another encoding")
        else:
            rows = min(rows, max(1, allowed // (longest[leaf.path] + 1)))
    return encoded, rows


def _encodings(chunk: pq.ColumnChunkMetaData) -> set[str]:
    """Those of its encodings that are in `ENCODINGS`, each by one name."""
    names = {name.replace("PLAIN_DICTIONARY", DICTIONARY) for name in chunk.encodings}
    return names & set(ENCODINGS.values())


def _chunks(file: pq.ParquetFile) -> Iterator[pq.ColumnChunkMetaData]:
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        yield from map(group.column, range(group.num_columns))


def _unpacked_bytes(array: pa.Array) -> int:
    """What an array takes once its dictionaries are unpacked."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary).take(array.indices)
        return (pc.sum(lengths).as_py() or 0) + CELL_BYTES * len(array)
    if pa.types.is_struct(kind):
        return sum(map(_unpacked_bytes, array.flatten()))
    if pa.types.is_map(kind):
        first, end = array.offsets[0].as_py(), array.offsets[-1].as_py()
        return sum(_unpacked_bytes(part[first:end]) for part in (array.keys, array.items))
    if pa.types.is_nested(kind):
        return _unpacked_bytes(array.flatten()) + CELL_BYTES * len(array)
    return array.nbytes + CELL_BYTES * len(array)


def _too_large(path: str, allowed: int) -> ManifestError:
    return ManifestError(
        f"{path}: not a readable manifest: it unpacks to more than {allowed} bytes, "
        f"{MOST_RATIO} times its size and more; write its rows to several files, or without "
        "columns that are not needed"
    )


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _decoded(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_dictionary(array.type):
        return array
    decoded = array.dictionary_decode()
    return decoded if decoded.type == kind else decoded.cast(kind)


def _checked(path: str, header: Sequence[str], check: Check) -> list[str]:
    if len(header) > MOST_COLUMNS:
        raise ManifestError(
            f"{path}: not a readable manifest: {len(header)} columns are more than {MOST_COLUMNS}"
        )
    return check(header)


def _first_of_each(table: Any, called: Sequence[str]) -> Any:
    """A table or batch with these column names; of those that stand twice, the first."""
    first = {name: index for index, name in reversed(list(enumerate(called)))}
    return table.rename_columns(list(called)).select(sorted(first.values()))


def _with_python_times(array: pa.Array) -> pa.Array:
    """The array with its nanoseconds cut to microseconds: Python's own times hold no more."""
    kind = array.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return array.cast(pa.timestamp("us", kind.tz), safe=False)
    if pa.types.is_time64(kind):
        return array.cast(pa.time64("us"), safe=False)
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return array.cast(pa.duration("us"), safe=False)
    return array


def _python_values(array: pa.Array) -> list[Any]:
    try:
        return array.to_pylist()
    except Exception:  # One value costs no other.
        return list(map(_python_value, array))


def _python_value(value: pa.Scalar) -> Any:
    """The value; text that is not UTF-8 with surrogates; None if Python cannot hold it."""
    try:
        return value.as_py()
    except UnicodeDecodeError:
        buffer = getattr(value, "as_buffer", None)
        return os.fsdecode(buffer().to_pybytes()) if buffer else None
    except Exception:  # Such as OverflowError for a time after the year 9999, or an unknown zone.
        return None
