"""Rows: the Parquet files of `statistics/`, `failures/` and `gated/`, written whole and read back.

A row in `statistics/` is the truth that an image is done. The rows of a work unit are one file,
written after all its masks under a name made from the unit's id, so that a unit that is run twice
writes the same file twice.
"""

import csv
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.classes import ClassTable
from models.merging import MergedClasses
from transforms import columns, storage
from transforms.concurrency import map_requests
from transforms.projections import Projection
from transforms.records import (
    Aside,
    Capture,
    ExtraColumn,
    Failure,
    Look,
    Segmented,
    UnitResult,
)

ROW_FIELDS = (
    pa.field(columns.IMAGE, pa.string(), nullable=False),
    pa.field(columns.URI, pa.string(), nullable=False),
    pa.field(columns.VERSION, pa.string(), nullable=False),
    pa.field(columns.WIDTH, pa.int64(), nullable=False),
    pa.field(columns.HEIGHT, pa.int64(), nullable=False),
    pa.field(columns.LATITUDE, pa.float64()),
    pa.field(columns.LONGITUDE, pa.float64()),
    pa.field(columns.CAPTURED_AT, pa.timestamp("us")),
    pa.field(columns.HEADING, pa.float64()),
    pa.field(columns.MASK, pa.string(), nullable=False),
    pa.field(columns.MODEL, pa.string(), nullable=False),
    pa.field(columns.RUN_ID, pa.string(), nullable=False),
)

LOOK_FIELDS = (
    pa.field(columns.PERCEPTUAL_HASH, pa.string()),
    pa.field(columns.SHARPNESS, pa.float64()),
)

FAILURE_SCHEMA = pa.schema(
    [
        pa.field(columns.IMAGE, pa.string(), nullable=False),
        pa.field(columns.URI, pa.string(), nullable=False),
        pa.field(columns.VERSION, pa.string(), nullable=False),
        pa.field(columns.STAGE, pa.string(), nullable=False),
        pa.field(columns.ERROR, pa.string(), nullable=False),
        pa.field(columns.MESSAGE, pa.string(), nullable=False),
        pa.field(columns.ATTEMPTS, pa.int64(), nullable=False),
        pa.field(columns.RUN_ID, pa.string(), nullable=False),
    ]
)

GATED_SCHEMA = pa.schema(
    [
        pa.field(columns.IMAGE, pa.string(), nullable=False),
        pa.field(columns.URI, pa.string(), nullable=False),
        pa.field(columns.VERSION, pa.string(), nullable=False),
        pa.field(columns.REASON, pa.string(), nullable=False),
        pa.field(columns.VALUE, pa.float64(), nullable=False),
        pa.field(columns.OF, pa.string()),
        pa.field(columns.RUN_ID, pa.string(), nullable=False),
    ]
)

FILES_PER_BLOCK = 16
"""Files of rows that one worker reads at a time."""

_SEPARATOR = "\0"
"""Between the parts of a key; no name holds it."""

EXTRA_PREFIX = "input_"
"""Put before a metadata column whose name the statistics use themselves."""


@dataclass(frozen=True)
class CommittedRow:
    """What the planner needs of a row that stands: which file it is in, and of what it is."""

    image: str
    uri: str
    version: str
    mask: str
    run_id: str
    file: str


@dataclass(frozen=True)
class PastAside:
    """For what reason a version of an image was set aside."""

    image: str
    version: str
    reason: str


@dataclass(frozen=True)
class PastFailure:
    """How often a version of an image has failed so far."""

    image: str
    version: str
    attempts: int


def statistics_table(
    segmented: Sequence[Segmented],
    classes: ClassTable,
    model: str,
    run_id: str,
    merged: MergedClasses | None = None,
) -> pa.Table:
    """The statistics rows of segmented images, in the columns of the output contract.

    With `merged`, the pixels of each merged class stand behind those of the classes. Mean
    confidences follow where the images have them, then the projection, then solid angles where
    there are panoramas, then looks where there was a gate; their names are kept for them
    everywhere, so that a column means the same in all files.
    """
    pixel_names = [columns.PIXELS_PREFIX + key for key in classes.keys]
    merged_names = [columns.MERGED_PREFIX + key for key in merged.keys] if merged else []
    fields = [
        *ROW_FIELDS,
        *(pa.field(n, pa.int64(), nullable=False) for n in pixel_names + merged_names),
    ]
    confidence_names = [
        columns.CONFIDENCE,
        *(columns.CONFIDENCE_PREFIX + key for key in classes.keys),
    ]
    unknown = (None,) * len(confidence_names)
    if any(item.confidence for item in segmented):
        fields += [pa.field(name, pa.float64()) for name in confidence_names]
    fields.append(pa.field(columns.PROJECTION, pa.string(), nullable=False))
    sphere_names = [
        *(columns.SOLID_ANGLE_PREFIX + key for key in classes.keys),
        columns.SKY_VIEW_FACTOR,
    ]
    flat = (None,) * len(sphere_names)
    if any(item.on_sphere for item in segmented):
        fields += [pa.field(name, pa.float64()) for name in sphere_names]
    if any(item.ref.look for item in segmented):
        fields += LOOK_FIELDS
    fields.append(pa.field(columns.GROUP, pa.string(), nullable=False))
    rows = []
    for item in segmented:
        ref, capture, confidence = item.ref, item.capture, item.confidence
        means = (confidence.mean, *confidence.classes) if confidence else unknown
        sphere = item.on_sphere
        angles = (*sphere.solid_angles, sphere.sky_view_factor) if sphere else flat
        projection = Projection.EQUIRECTANGULAR if sphere else Projection.PERSPECTIVE
        rows.append(
            {
                columns.IMAGE: ref.image,
                columns.URI: ref.uri,
                columns.VERSION: ref.version,
                columns.WIDTH: item.width,
                columns.HEIGHT: item.height,
                columns.LATITUDE: capture.latitude,
                columns.LONGITUDE: capture.longitude,
                columns.CAPTURED_AT: capture.captured_at,
                columns.HEADING: capture.heading,
                columns.MASK: ref.mask,
                columns.MODEL: model,
                columns.RUN_ID: run_id,
                columns.GROUP: ref.group,
                **dict(zip(pixel_names, item.pixels, strict=True)),
                **dict(zip(merged_names, merged.merge(item.pixels) if merged else (), strict=True)),
                **dict(zip(confidence_names, means, strict=True)),
                columns.PROJECTION: projection.value,
                **dict(zip(sphere_names, angles, strict=True)),
                columns.PERCEPTUAL_HASH: ref.look and ref.look.perceptual_hash,
                columns.SHARPNESS: ref.look and ref.look.sharpness,
            }
        )
    table = pa.Table.from_pylist(rows, pa.schema(fields))
    extras = _extra_arrays([item.ref.extra for item in segmented])
    look_names = [field.name for field in LOOK_FIELDS]
    taken = {*table.column_names, *confidence_names, *sphere_names, *look_names}
    for name, array in extras.items():
        column = name
        while column in taken or (column != name and column in extras):
            column = EXTRA_PREFIX + column
        taken.add(column)
        table = table.append_column(column, array)
    return table


def failure_table(failures: Sequence[Failure], run_id: str) -> pa.Table:
    """The failure rows of images, in the columns of the output contract.

    What could not be written is no attempt that counts: a disk that is full for some nights must
    not bring good photos into quarantine.
    """
    return pa.Table.from_pylist(
        [
            {
                columns.IMAGE: failure.ref.image,
                columns.URI: failure.ref.uri,
                columns.VERSION: failure.ref.version,
                columns.STAGE: failure.stage,
                columns.ERROR: failure.error,
                columns.MESSAGE: failure.message,
                columns.ATTEMPTS: failure.ref.attempts + (failure.stage != columns.WRITE),
                columns.RUN_ID: run_id,
            }
            for failure in failures
        ],
        FAILURE_SCHEMA,
    )


def commit(
    output: str,
    result: UnitResult,
    classes: ClassTable,
    model: str,
    run_id: str,
    merged: MergedClasses | None = None,
) -> None:
    """Write the rows of a unit whose masks are in place: failures first, then statistics.

    Raises:
        StorageError: a file cannot be written.
    """
    if result.failures:
        _write_table(
            output,
            f"{columns.FAILURES}/{result.unit_id}.parquet",
            failure_table(result.failures, run_id),
        )
    if result.segmented:
        _write_table(
            output,
            f"{columns.STATISTICS}/{result.unit_id}.parquet",
            statistics_table(result.segmented, classes, model, run_id, merged),
        )


def write_gated(output: str, aside: Sequence[Aside], run_id: str) -> None:
    """Write the rows of images that are set aside, if any, under a name made from them.

    Raises:
        StorageError: the file cannot be written.
    """
    if not aside:
        return
    table = pa.Table.from_pylist(
        [
            {
                columns.IMAGE: item.ref.image,
                columns.URI: item.ref.uri,
                columns.VERSION: item.ref.version,
                columns.REASON: item.reason,
                columns.VALUE: item.value,
                columns.OF: item.of,
                columns.RUN_ID: run_id,
            }
            for item in sorted(aside, key=lambda item: item.ref.image)
        ],
        GATED_SCHEMA,
    )
    digest = hashlib.sha256(repr(table.to_pylist()).encode()).hexdigest()[:20]
    _write_table(output, f"{columns.GATED}/{digest}.parquet", table)


def parquet_files(output: str, folder: str) -> list[str]:
    """The Parquet files in a folder of the output, in a fixed order."""
    return [file.path for file in storage.list_folder(f"{output}/{folder}", ".parquet")]


def file_blocks(output: str, folder: str) -> Iterator[tuple[str, ...]]:
    """The same, some files at a time: remote ones are fetched side by side."""
    files = parquet_files(output, folder)
    for start in range(0, len(files), FILES_PER_BLOCK):
        yield tuple(files[start : start + FILES_PER_BLOCK])


def read_tables(
    files: Iterable[str], wanted: Sequence[str] | None = None, only_with: Sequence[str] = ()
) -> Iterator[tuple[str, pa.Table]]:
    """Parquet files and their rows, whole or the `wanted` columns.

    Args:
        files: their paths; remote ones are fetched side by side.
        wanted: columns; None: all.
        only_with: columns without which a file is passed over.

    Raises:
        StorageError: a file cannot be read, is damaged, or lacks a column.
    """
    for file, source in _sources(files):
        try:
            # ParquetFile opens a small file in a third of the time that `pq.read_table` takes.
            parquet = pq.ParquetFile(source)
            present = set(parquet.schema_arrow.names)
            table = parquet.read(wanted) if present.issuperset(only_with) else None
        except (OSError, pa.ArrowException) as error:
            output = os.path.dirname(os.path.dirname(file))
            raise storage.StorageError(
                f"{file}: cannot be read ({str(error).splitlines()[0]}); "
                f"`citymask verify {output}` finds all such files, and the next run replaces them"
            ) from error
        if table is None:
            continue
        if missing := set(wanted or ()) - present:
            raise storage.StorageError(f"{file}: has no column {', '.join(sorted(missing))}")
        yield file, table


def open_parquet(file: str) -> pq.ParquetFile:
    """A Parquet file to read from; raises StorageError, or what pyarrow raises on damaged files."""
    ((_, source),) = _sources([file])
    return pq.ParquetFile(source)


def read_table(file: str, wanted: Sequence[str] | None = None) -> pa.Table:
    """The rows of one Parquet file; see `read_tables`."""
    ((_, table),) = read_tables([file], wanted)
    return table


def committed_rows(files: Iterable[str], model: str) -> Iterator[CommittedRow]:
    """The rows of `model` in statistics files."""
    wanted = [
        columns.IMAGE, columns.URI, columns.VERSION, columns.MASK, columns.RUN_ID, columns.MODEL
    ]  # fmt: skip
    for file, table in read_tables(files, wanted):
        values = (table[name].to_pylist() for name in wanted)
        for image, uri, version, mask, run_id, of_model in zip(*values, strict=True):
            if of_model == model:
                yield CommittedRow(image, uri, version, mask, run_id, file)


def past_failures(files: Iterable[str]) -> Iterator[PastFailure]:
    """The failures in failures files."""
    wanted = [columns.IMAGE, columns.VERSION, columns.ATTEMPTS]
    for _, table in read_tables(files, wanted):
        for row in table.to_pylist():
            yield PastFailure(**row)


def past_asides(files: Iterable[str]) -> Iterator[PastAside]:
    """The images that were set aside, in files of `gated/`."""
    for _, table in read_tables(files, [columns.IMAGE, columns.VERSION, columns.REASON]):
        for row in table.to_pylist():
            yield PastAside(**row)


def looks_of(files: Iterable[str], model: str) -> Iterator[tuple[str, Look, Capture]]:
    """Image, look and position of the rows of `model` in statistics files that have looks."""
    looks = [field.name for field in LOOK_FIELDS]
    wanted = [columns.IMAGE, columns.MODEL, *looks, columns.LATITUDE, columns.LONGITUDE]
    for _, table in read_tables(files, wanted, only_with=looks):
        values = (table[name].to_pylist() for name in wanted)
        for image, of_model, digits, sharpness, latitude, longitude in zip(*values, strict=True):
            if of_model == model and digits:
                yield image, Look(digits, sharpness), Capture(latitude, longitude)


def write_removed(output: str, gone: Iterable[CommittedRow]) -> None:
    """Write `removed.csv`: the rows whose images are there no more; raises StorageError.

    The rows and masks themselves stay.
    """
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((columns.IMAGE, columns.URI, columns.MASK, columns.RUN_ID))
    for row in sorted(gone, key=lambda row: row.image):
        writer.writerow((row.image, row.uri, row.mask, row.run_id))
    storage.write(output, columns.REMOVED_CSV, text.getvalue().encode())


def models_in(output: str) -> dict[str, set[str]]:
    """The models with rows in an output folder, and the mask folders each of them uses."""
    found: dict[str, set[str]] = {}
    files = parquet_files(output, columns.STATISTICS)
    for _, table in read_tables(files, [columns.MODEL, columns.MASK]):
        for model in pc.unique(table[columns.MODEL]).to_pylist():
            masks = table.filter(pc.equal(table[columns.MODEL], model))[columns.MASK]
            folders = pc.list_element(pc.split_pattern(masks, "/", max_splits=1), 0)
            found.setdefault(model, set()).update(pc.unique(folders).to_pylist())
    return found


def drop_rows(output: str, file: str, dropped: Iterable[tuple[str, str]]) -> None:
    """Rewrite a statistics file of `output` without some rows, or remove it if no row is left.

    A file that is gone already is no error, so that a repeated call does no harm.

    Args:
        output: the output folder.
        file: path of the statistics file.
        dropped: image and run id of each row to drop.

    Raises:
        StorageError: the file cannot be written.
    """
    if storage.find(file).size < 0:
        return
    table = read_table(file)
    keys = pc.binary_join_element_wise(table[columns.IMAGE], table[columns.RUN_ID], _SEPARATOR)
    wanted = pa.array([_SEPARATOR.join(pair) for pair in dropped])
    replace_rows(output, file, table.filter(pc.invert(pc.is_in(keys, wanted))))


def replace_rows(output: str, file: str, kept: pa.Table) -> None:
    """Write a Parquet file of `output` anew with the rows that are kept, or remove it if none is.

    Raises:
        StorageError: the file cannot be written or removed.
    """
    if len(kept):
        _write_table(output, os.path.relpath(file, output), kept)
    else:
        storage.remove(file)


def _sources(files: Iterable[str]) -> Iterator[tuple[str, str | BytesIO]]:
    """Each file with what pyarrow can read it from: a local path, or the bytes of a remote file."""
    files = list(files)
    if not any(map(storage.is_remote, files)):
        yield from zip(files, files, strict=True)
        return
    for file, data in zip(files, map_requests(_fetch, files), strict=True):
        yield file, BytesIO(data)


def _fetch(file: str) -> bytes:
    try:
        return storage.read(file)
    except storage.StorageError as error:
        raise storage.StorageError(f"{file}: {error}") from error


def _write_table(output: str, name: str, table: pa.Table) -> None:
    buffer = BytesIO()
    pq.write_table(table, buffer)
    storage.write(output, name, buffer.getvalue())


def _extra_arrays(extras: Sequence[tuple[ExtraColumn, ...]]) -> dict[str, pa.Array]:
    """Extra columns by name over rows that may each have others.

    Whole numbers among fractions become fractions; what is mixed otherwise becomes text.
    """
    types: dict[str, set[str]] = {}
    for extra in extras:
        for entry in extra:
            types.setdefault(entry.name, set()).add(entry.arrow_type)
    values: dict[str, list[Any]] = {name: [None] * len(extras) for name in types}
    for row, extra in enumerate(extras):
        for entry in extra:
            values[entry.name][row] = entry.value
    arrays = {}
    for name, kinds in types.items():
        if kinds == {"int64", "double"}:
            arrays[name] = pa.array(values[name], pa.float64())
        elif len(kinds) == 1:
            arrays[name] = pa.array(values[name], pa.type_for_alias(kinds.pop()))
        else:
            texts = [None if value is None else str(value) for value in values[name]]
            arrays[name] = pa.array(texts, pa.string())
    return arrays
