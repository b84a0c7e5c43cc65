"""Parts: the rows of an archive, split into parts that workers export in parallel.

Files differ in size and, in part, in columns. A survey of them says how many rows of the model each
holds, and in which columns; from it follow parts of equal size, whose rows have numbers that are
unique in the archive, and one schema for all of them.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from transforms.output import columns
from transforms.output.archives import Archive, statistics_of
from transforms.output.column_groups import ROW_FIELDS


def base64_text(value: bytes) -> str:
    """Bytes as text, RFC 4648."""
    return b64encode(value).decode()


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values of a type are bytes."""
    return (
        pt.is_binary(kind)
        or pt.is_large_binary(kind)
        or pt.is_fixed_size_binary(kind)
        or pt.is_binary_view(kind)
    )


@dataclass(frozen=True)
class Survey:
    """The rows of the archive's model in some statistics files.

    Attributes:
        files: path and rows of the model of each file that has any.
        schema: the columns of these files.
    """

    files: tuple[tuple[str, int], ...]
    schema: pa.Schema


@dataclass(frozen=True)
class Piece:
    """Rows `start` to `stop` of the model in a statistics file."""

    file: str
    start: int
    stop: int


@dataclass(frozen=True)
class Part:
    """A part of the archive's rows.

    Attributes:
        number: its position among the parts, from 0.
        first: number of its first row in the archive.
        pieces: where its rows are.
    """

    number: int
    first: int
    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        """A file name that sorts by position."""
        return f"part-{self.number:06}"

    def read(self, archive: Archive, schema: pa.Schema) -> pa.Table:
        """Its rows in the columns of a schema; columns missing from a file are null.

        Raises:
            StorageError: a file cannot be read.
        """
        tables = statistics_of(archive, [piece.file for piece in self.pieces])
        found = [
            conform(table.slice(piece.start, piece.stop - piece.start), schema)
            for piece, table in zip(self.pieces, tables, strict=True)
        ]
        return pa.concat_tables(found) if found else schema.empty_table()


@dataclass(frozen=True)
class Layout:
    """Where the rows of an archive are in its files.

    Attributes:
        files: path and rows of each file, in order.
        schema: one for all of them, see `common_schema`.
    """

    files: tuple[tuple[str, int], ...]
    schema: pa.Schema

    @classmethod
    def of(cls, surveys: Iterable[Survey]) -> "Layout":
        """Merge surveys, in any order."""
        surveys = sorted((s for s in surveys if s.files), key=lambda survey: survey.files)
        return cls(
            tuple(file for survey in surveys for file in survey.files),
            common_schema([survey.schema for survey in surveys]),
        )

    def parts(self, rows_per_part: int) -> Iterator[Part]:
        """Parts of a number of rows; the last may have fewer."""
        number = first = taken = 0
        pieces: list[Piece] = []
        for file, count in self.files:
            start = 0
            while start < count:
                stop = min(count, start + rows_per_part - taken)
                pieces.append(Piece(file, start, stop))
                taken += stop - start
                start = stop
                if taken == rows_per_part:
                    yield Part(number, first, tuple(pieces))
                    number, first, taken, pieces = number + 1, first + taken, 0, []
        if pieces:
            yield Part(number, first, tuple(pieces))


def survey(files: tuple[str, ...], archive: Archive) -> Survey:
    """Survey the rows of the archive's model in statistics files; raises StorageError."""
    tables = statistics_of(archive, files)
    found = [
        (file, len(table), table.schema.remove_metadata())
        for file, table in zip(files, tables, strict=True)
        if len(table)
    ]
    return Survey(
        tuple((file, count) for file, count, _ in found),
        common_schema([schema for *_, schema in found]),
    )


def common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """One schema for files whose extra columns differ; every column is nullable.

    Columns come in the order of the contract, the others behind them. Whole numbers of several
    sizes become the largest, and fractions among fractions; what is mixed otherwise becomes text,
    as within a file, and bytes Base64.
    """
    known = {field.name: position for position, field in enumerate(ROW_FIELDS)}
    types: dict[str, set[pa.DataType]] = {}
    for schema in schemas:
        for field in schema:
            types.setdefault(field.name, set()).add(field.type)
    names = sorted(types, key=lambda name: known.get(name, len(known)))
    return pa.schema([pa.field(name, _common_type(types[name])) for name in names])


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table in the columns of a schema; missing columns are null."""
    present = set(table.column_names)
    return pa.table(
        [
            _cast(table[field.name], field.type)
            if field.name in present
            else pa.nulls(len(table), field.type)
            for field in schema
        ],
        schema=schema,
    )


def mask_schema() -> pa.Schema:
    """The columns that exports of masks read."""
    wanted = (columns.IMAGE, columns.URI, columns.WIDTH, columns.HEIGHT, columns.MASK)
    fields = [field for field in ROW_FIELDS if field.name in wanted]
    return pa.schema([*fields, pa.field(columns.GROUP, pa.string())])


def _common_type(types: set[pa.DataType]) -> pa.DataType:
    types = types - {pa.null()} or {pa.string()}
    if len(types) == 1:
        return next(iter(types))
    if all(map(pt.is_unsigned_integer, types)):
        return pa.uint64()
    if all(map(pt.is_integer, types)):  # A fraction would not hold an id of 17 digits.
        return pa.string() if pa.uint64() in types else pa.int64()
    if all(pt.is_integer(kind) or pt.is_floating(kind) for kind in types):
        return pa.float64()
    return pa.string()


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column in the common type of its name: any type can become text."""
    if kind != pa.string():
        return column.cast(kind, safe=False)
    convert: Callable[[Any], str]
    if is_bytes(column.type):
        convert = base64_text
    elif pt.is_nested(column.type):
        convert = partial(json.dumps, default=str, ensure_ascii=False)
    else:
        return column.cast(kind)
    texts = [None if value is None else convert(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, kind)])
