"""Rows: writes and reads the Parquet files of `statistics/`, `failures/` and `gated/`.

An image has results if it has a row in `statistics/`. The rows of a work unit are one file, written
after all its masks and named after the unit's id, so a unit that runs twice writes the same file
twice.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from models.classes import ClassTable
from models.csv_cells import as_text, lines
from models.merging import MergedClasses
from transforms import storage
from transforms.flow.alone import ProcessKilled
from transforms.flow.records import (
    Aside,
    Capture,
    Look,
    UnitResult,
)
from transforms.output import columns, fencing, parquet, precisions
from transforms.output.column_groups import LOOK_FIELDS
from transforms.output.schemas import GATED_SCHEMA, failure_table, statistics_table

_SEPARATOR = "\0"
"""Separates the parts of a key; no name contains it."""


@dataclass(frozen=True)
class CommittedRow:
    """The values of a committed row that planning needs, and the file that holds the row."""

    image: str
    uri: str
    version: str
    mask: str
    run_id: str
    file: str


@dataclass(frozen=True)
class PresentRows:
    """The rows of a model in an output folder.

    Attributes:
        folders: folders of their masks.
        precisions: how many rows have masks of each precision, see `output.precisions`.
    """

    folders: set[str] = field(default_factory=set)
    precisions: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class PastAside:
    """A version of an image that was set aside, and why."""

    image: str
    version: str
    reason: str


@dataclass(frozen=True)
class PastFailure:
    """A version of an image that has failed, how often so far, and the type of the last error."""

    image: str
    version: str
    attempts: int
    error: str = ""

    @property
    def has_killed(self) -> bool:
        """Whether the image is known to kill the process that segments it."""
        return self.error == ProcessKilled.__name__


def commit(
    output: str,
    result: UnitResult,
    classes: ClassTable,
    model: str,
    run_id: str,
    merged: MergedClasses | None = None,
    mask_values: Sequence[int] | None = None,
    durable: bool = True,
    owner: str = "",
) -> None:
    """Write the rows of a unit whose masks are written: failures first, then statistics.

    Args:
        output: the output folder.
        result: the unit's images.
        classes, model, run_id, merged, mask_values: see `schemas.statistics_table`.
        durable: whether the masks, and then the rows, are flushed to the disk, so that no power
            cut leaves a row without its mask.
        owner: who holds the lock of the folder, see `fencing.check`.

    Raises:
        LockLostError: it has lost the lock.
        StorageError: a file cannot be written.
    """
    if durable and result.segmented:
        storage.flush(output)
    if result.failures:
        parquet.write_table(
            output,
            f"{columns.FAILURES}/{result.unit_id}.parquet",
            failure_table(result.failures, run_id),
            durable,
            owner,
        )
    if result.segmented:
        parquet.write_table(
            output,
            f"{columns.STATISTICS}/{result.unit_id}.parquet",
            statistics_table(result.segmented, classes, model, run_id, merged, mask_values),
            durable,
            owner,
        )


def write_gated(output: str, aside: Sequence[Aside], run_id: str, owner: str = "") -> None:
    """Write the rows of images that are set aside, if any; the file name is a hash of the rows.

    Raises:
        LockLostError: `owner` has lost the lock of the folder, see `fencing.check`.
        StorageError: the file cannot be written.
    """
    if not aside:
        return
    table = pa.Table.from_pylist(
        [
            {
                columns.IMAGE: item.planned.ref.image,
                columns.URI: item.planned.ref.uri,
                columns.VERSION: item.planned.ref.version,
                columns.REASON: item.reason,
                columns.VALUE: item.value,
                columns.OF: item.of,
                columns.RUN_ID: run_id,
            }
            for item in sorted(aside, key=lambda item: item.planned.ref.image)
        ],
        GATED_SCHEMA,
    )
    digest = hashlib.sha256(repr(table.to_pylist()).encode()).hexdigest()[:20]
    parquet.write_table(output, f"{columns.GATED}/{digest}.parquet", table, owner=owner)


def committed_rows(files: Iterable[str], model: str) -> Iterator[CommittedRow]:
    """The rows of `model` in statistics files."""
    wanted = [
        columns.IMAGE, columns.URI, columns.VERSION, columns.MASK, columns.RUN_ID, columns.MODEL
    ]  # fmt: skip
    for file, table in parquet.read_tables(files, wanted):
        values = (table[name].to_pylist() for name in wanted)
        for image, uri, version, mask, run_id, of_model in zip(*values, strict=True):
            if of_model == model:
                yield CommittedRow(image, uri, version, mask, run_id, file)


def past_failures(files: Iterable[str]) -> Iterator[PastFailure]:
    """The failures in failures files."""
    wanted = [columns.IMAGE, columns.VERSION, columns.ATTEMPTS, columns.ERROR]
    for _, table in parquet.read_tables(files, wanted):
        for row in table.to_pylist():
            yield PastFailure(**row)


def past_asides(files: Iterable[str]) -> Iterator[PastAside]:
    """The images that were set aside, in files of `gated/`."""
    for _, table in parquet.read_tables(files, [columns.IMAGE, columns.VERSION, columns.REASON]):
        for row in table.to_pylist():
            yield PastAside(**row)


def looks_of(files: Iterable[str], model: str) -> Iterator[tuple[str, Look, Capture]]:
    """Image, look and position of the rows of `model`, from the statistics files with looks."""
    looks = [field.name for field in LOOK_FIELDS]
    wanted = [columns.IMAGE, columns.MODEL, *looks, columns.LATITUDE, columns.LONGITUDE]
    for _, table in parquet.read_tables(files, wanted, only_with=looks):
        values = (table[name].to_pylist() for name in wanted)
        for image, of_model, digits, sharpness, latitude, longitude in zip(*values, strict=True):
            if of_model == model and digits:
                yield image, Look(digits, sharpness), Capture(latitude, longitude)


def write_removed(output: str, gone: Iterable[CommittedRow], owner: str = "") -> None:
    """Write `removed.csv`: the rows whose images no longer exist; see `fencing.write`.

    The rows and masks themselves are kept.
    """
    header = (columns.IMAGE, columns.URI, columns.MASK, columns.RUN_ID)
    ordered = sorted(gone, key=lambda row: row.image)
    cells = (map(as_text, (row.image, row.uri, row.mask, row.run_id)) for row in ordered)
    fencing.write(output, columns.REMOVED_CSV, lines([header, *cells]), owner)


def models_in(output: str) -> dict[str, PresentRows]:
    """The models with rows in an output folder, and what their rows have in common."""
    found: dict[str, PresentRows] = defaultdict(PresentRows)
    files = parquet.files_in(output, columns.STATISTICS)
    wanted = [columns.MODEL, columns.MASK]
    for _, table in parquet.read_tables(files, wanted, also=[columns.PRECISION]):
        for model in pc.unique(table[columns.MODEL]).to_pylist():
            of_model = table.filter(pc.equal(table[columns.MODEL], model))
            folders = pc.split_pattern(of_model[columns.MASK], "/", max_splits=1)
            found[model].folders.update(pc.unique(pc.list_element(folders, 0)).to_pylist())
            found[model].precisions.update(precisions.count(of_model))
    return dict(found)


def count_by_model(output: str) -> dict[str, int]:
    """The number of rows of each model in an output folder; raises StorageError."""
    counts: Counter[str] = Counter()
    for _, table in parquet.read_tables(
        parquet.files_in(output, columns.STATISTICS), [columns.MODEL]
    ):
        for entry in pc.value_counts(table[columns.MODEL].combine_chunks()).to_pylist():
            counts[entry["values"]] += entry["counts"]
    return dict(counts)


def drop_rows(output: str, file: str, dropped: Iterable[tuple[str, str]], owner: str = "") -> None:
    """Rewrite a statistics file of `output` without some rows, or remove it if no row is left.

    A missing file is not an error, so a repeated call is harmless.

    Args:
        output: the output folder.
        file: path of the statistics file.
        dropped: image and run id of each row to drop.
        owner: who holds the lock of the folder, see `fencing.check`.

    Raises:
        LockLostError: it has lost the lock.
        StorageError: the file cannot be written.
    """
    if not storage.exists(file):
        return
    table = parquet.read_table(file)
    keys = pc.binary_join_element_wise(table[columns.IMAGE], table[columns.RUN_ID], _SEPARATOR)
    wanted = pa.array([_SEPARATOR.join(pair) for pair in dropped])
    kept = table.filter(pc.invert(pc.is_in(keys, wanted)))
    parquet.replace_rows(output, file, kept, owner)
