"""Failing: the photos that could not be done, by what went wrong."""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from transforms.output import columns, parquet, schemas
from transforms.reporting import contract

EXAMPLES = 5

_WANTED = (columns.IMAGE, columns.STAGE, columns.ERROR, columns.MESSAGE, columns.RUN_ID)


def newest_failures(files: Iterable[str]) -> pa.Table:
    """The newest failure of each image in failures files: image, stage, error and message.

    Raises:
        StorageError: a file cannot be read, is damaged, or lacks a column.
    """
    tables = [table for _, table in parquet.read_tables(files, _WANTED)]
    schema = pa.schema([schemas.FAILURE_SCHEMA.field(name) for name in _WANTED])
    found = pa.concat_tables(tables) if tables else schema.empty_table()
    ordered = found.sort_by([(columns.RUN_ID, "ascending"), (columns.MESSAGE, "ascending")])
    kept = [name for name in _WANTED if name not in (columns.IMAGE, columns.RUN_ID)]
    newest = (
        ordered.group_by(columns.IMAGE, use_threads=False)
        .aggregate([(name, "last") for name in kept])
        .combine_chunks()  # Slices would be pickled with all that they are slices of.
    )
    return newest.rename_columns([name.removesuffix("_last") for name in newest.column_names])


def done_among(failures: pa.Table, table: pa.Table) -> pa.Array:
    """The images of failures that have a statistics row, and so have been done since."""
    images = table[columns.IMAGE].combine_chunks()
    return images.filter(pc.is_in(images, failures[columns.IMAGE]))


def still_failing(failures: pa.Table, done: Iterable[pa.Array]) -> pa.Table:
    """The failures of images that have not been done since."""
    images = pa.chunked_array(list(done), pa.string())
    return failures.filter(pc.invert(pc.is_in(failures[columns.IMAGE], images)))


def failure_kinds(failures: pa.Table) -> list[contract.FailureKind]:
    """Failures by stage and error, most frequent first."""
    kinds = (
        failures.sort_by(columns.IMAGE)
        .group_by([columns.STAGE, columns.ERROR], use_threads=False)
        .aggregate([(columns.IMAGE, "list"), (columns.MESSAGE, "first")])
    )
    found = [
        contract.FailureKind(
            stage=kind[columns.STAGE],
            error=kind[columns.ERROR],
            message=kind[f"{columns.MESSAGE}_first"],
            count=len(kind[f"{columns.IMAGE}_list"]),
            examples=kind[f"{columns.IMAGE}_list"][:EXAMPLES],
        )
        for kind in kinds.to_pylist()
    ]
    return sorted(found, key=lambda kind: (-kind.count, kind.stage, kind.error))
