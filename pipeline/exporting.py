"""Exports: checks before any work, the lock, then a pipeline that makes all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from models.indicators import Indicators
from pipeline.runners import Runner
from pipeline.runs.request import locked, named
from transforms import storage
from transforms.exporting import FORMATS, ExportArchive, Exported, ExportError, Format, places
from transforms.exporting.graph import COUNTERS, LEFT_OUT, PHOTOS
from transforms.measures.positions import positioned
from transforms.output import columns, fencing, parquet
from transforms.output.archives import Archive, statistics_of


@dataclass(frozen=True)
class Export:
    """An export that is whole.

    Attributes:
        form: its format.
        folder: where it is.
        exported: the photos that it holds; None where the runner does not count.
    """

    form: Format
    folder: str
    exported: Exported | None


def make_formats(
    archive: Archive, indicators: Indicators, names: Sequence[str], resolution: int
) -> dict[str, Format]:
    """The exports of an archive, by names of `FORMATS`."""
    return {
        name: FORMATS[name](archive, indicators, resolution, places.building(archive.output, name))
        for name in names
    }


def check(archive: Archive, formats: dict[str, Format]) -> list[str]:
    """What a user should know before these exports are made, a line each.

    Raises:
        ExportError: one of them cannot be made.
        StorageError: the archive cannot be read.
    """
    storage.check_writable(archive.output)
    first = next(_rows_of(archive, [columns.MASK]), None)
    if first is None:
        raise ExportError(f"{archive.output}: no rows of the model {archive.model}")
    with_positions = [name for name, form in formats.items() if form.needs_position]
    if with_positions and not _any_position(archive):
        raise ExportError(
            f"{archive.output}: no row has a position, which {', '.join(with_positions)} "
            "cannot be without; positions come from EXIF or from a manifest"
        )
    with_masks = [name for name, form in formats.items() if form.reads_masks]
    mask = first[columns.MASK][0].as_py()
    if with_masks and not storage.exists(f"{archive.output}/{mask}"):
        raise ExportError(
            f"{archive.output}: no masks ({mask} is not there), which {', '.join(with_masks)} "
            "cannot be without; `citymask run` makes masks that are missing after "
            f"`citymask verify {archive.output}`"
        )
    return [note for form in formats.values() if (note := form.note())]


def export(archive: Archive, formats: dict[str, Format], runner: Runner) -> list[Export]:
    """Make exports, in the place of older ones of the same names.

    Raises what `Runner.run` raises, and:
        ConfigurationError: the folder cannot be written.
        ExportError: an export cannot be made.
        LockedError: somebody else holds the output folder.
        LockLostError: somebody else has taken it over meanwhile.
        StorageError: something cannot be read or written.

    Whatever is raised, no export is left that is not whole.
    """
    output, owner = archive.output, named("export")
    with locked(output, owner, writes=False):
        for name in formats:
            places.begin(output, name)
        try:
            metrics = runner.run(lambda pipeline: pipeline | ExportArchive(archive, formats))
        except BaseException:
            fencing.check(output, owner)
            for name in formats:
                places.abandon(output, name)
            raise
        for name in formats:
            fencing.check(output, owner)
            places.publish(output, name)
    counters = metrics.in_namespace(COUNTERS)
    return [
        Export(
            form,
            f"{output}/{places.final(name)}",
            Exported(counters.get(f"{name} {PHOTOS}", 0), counters.get(f"{name} {LEFT_OUT}", 0))
            if metrics.known
            else None,
        )
        for name, form in formats.items()
    ]


def _any_position(archive: Archive) -> bool:
    tables = _rows_of(archive, [columns.LATITUDE, columns.LONGITUDE])
    return any(len(positioned(table)) for table in tables)


def _rows_of(archive: Archive, wanted: Sequence[str]) -> Iterator[pa.Table]:
    for files in parquet.file_blocks(archive.output, columns.STATISTICS):
        yield from filter(len, statistics_of(archive, files, wanted))
