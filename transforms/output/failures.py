"""Failures: the images that could not be segmented, grouped by stage and error."""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from transforms.output import columns, parquet, schemas

_WANTED = (columns.IMAGE, columns.STAGE, columns.ERROR, columns.MESSAGE, columns.RUN_ID)


@dataclass(frozen=True)
class FailureKind:
    """Failures with the same stage and error.

    Attributes:
        stage: where they happened.
        error: type name of the error.
        images: the failed images, sorted.
        message: the message of the first one.
    """

    stage: str
    error: str
    images: tuple[str, ...]
    message: str


def failures_of_run(output: str, run_id: str) -> pa.Table:
    """The failures of a run; raises StorageError."""
    found = _read_failures(parquet.files_in(output, columns.FAILURES))
    return found.filter(pc.equal(found[columns.RUN_ID], run_id))


def newest_failures(output: str) -> pa.Table:
    """The newest failure of each image: image, stage, error and message; raises StorageError."""
    found = _read_failures(parquet.files_in(output, columns.FAILURES))
    ordered = found.sort_by([(columns.RUN_ID, "ascending"), (columns.MESSAGE, "ascending")])
    kept = [name for name in _WANTED if name not in (columns.IMAGE, columns.RUN_ID)]
    newest = (
        ordered.group_by(columns.IMAGE, use_threads=False)
        .aggregate([(name, "last") for name in kept])
        .combine_chunks()  # A pickled slice would include the whole array.
    )
    return newest.rename_columns([name.removesuffix("_last") for name in newest.column_names])


def done_among(failures: pa.Table, table: pa.Table) -> pa.Array:
    """The failed images that have a statistics row, so have been segmented since."""
    images = table[columns.IMAGE].combine_chunks()
    return images.filter(pc.is_in(images, failures[columns.IMAGE]))


def still_failing(failures: pa.Table, done: Iterable[pa.Array]) -> pa.Table:
    """The failures of images that have not been segmented since."""
    images = pa.chunked_array(list(done), pa.string())
    return failures.filter(pc.invert(pc.is_in(failures[columns.IMAGE], images)))


def failure_kinds(failures: pa.Table) -> list[FailureKind]:
    """Failures grouped by stage and error, most frequent first."""
    kinds = (
        failures.sort_by([(columns.IMAGE, "ascending"), (columns.MESSAGE, "ascending")])
        .group_by([columns.STAGE, columns.ERROR], use_threads=False)
        .aggregate([(columns.IMAGE, "list"), (columns.MESSAGE, "first")])
    )
    found = [
        FailureKind(
            kind[columns.STAGE],
            kind[columns.ERROR],
            tuple(kind[f"{columns.IMAGE}_list"]),
            kind[f"{columns.MESSAGE}_first"],
        )
        for kind in kinds.to_pylist()
    ]
    return sorted(found, key=lambda kind: (-len(kind.images), kind.stage, kind.error))


def _read_failures(files: Iterable[str]) -> pa.Table:
    tables = [table for _, table in parquet.read_tables(files, _WANTED)]
    schema = pa.schema([schemas.FAILURE_SCHEMA.field(name) for name in _WANTED])
    return pa.concat_tables(tables) if tables else schema.empty_table()
