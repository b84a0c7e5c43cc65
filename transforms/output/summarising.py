"""Summarising: pixels and images per class, for the archive and for each of its groups."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsList

from models.classes import ClassTable
from models.merging import MergedClasses
from transforms.flow.records import SkippedImages, UnitResult
from transforms.output import columns, parquet, stopping
from transforms.output.fencing import Fence
from transforms.output.precisions import by_name, named, one_of, stated
from transforms.output.summary import (
    CLASSES,
    MERGED,
    ClassShare,
    Group,
    Images,
    Interrupted,
    Summary,
)

COUNTERS = "citymask.summarising"
"""Namespace of the Beam counters of these steps: `rows_counted`, `rows_removed`."""

PRECISIONS = "citymask.output_precisions"
"""Namespace of the Beam counters of committed rows, one per precision of their masks."""


@dataclass(frozen=True)
class GroupCounts:
    """Counts of some images of one group; counts of the same group add up.

    Attributes:
        group: name of the group.
        done: images with a row.
        failed: images that failed in this run.
        skipped: images that were done before this run; they are included in `done`.
        left: images that this run left for the next one, because it was asked to stop.
        pixels: pixels per class in the order of the ids; empty if no image is done.
        images: images that show each class, in the same order.
        merged_images: images that show each merged class, in the order of the mapping.
        gated: images that are set aside, by this run or an earlier one.
        precisions: images with a row by the precision of their masks, in the order of
            `precisions.PRECISIONS`; empty if no image is done.
        unlike: images with a row that says that they are unlike those the model knows; None if no
            row says whether.
    """

    group: str
    done: int = 0
    failed: int = 0
    skipped: int = 0
    left: int = 0
    pixels: tuple[int, ...] = ()
    images: tuple[int, ...] = ()
    merged_images: tuple[int, ...] = ()
    gated: int = 0
    precisions: tuple[int, ...] = ()
    unlike: int | None = None

    def __add__(self, other: "GroupCounts") -> "GroupCounts":
        return GroupCounts(
            self.group,
            self.done + other.done,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.left + other.left,
            _add(self.pixels, other.pixels),
            _add(self.images, other.images),
            _add(self.merged_images, other.merged_images),
            self.gated + other.gated,
            _add(self.precisions, other.precisions),
            _add_known(self.unlike, other.unlike),
        )


@dataclass(frozen=True)
class ArchiveCounts:
    """Counts of a whole archive and of its groups by name.

    Attributes:
        classes: the classes that `pixels` counts.
        archive: counts over all images.
        groups: counts per group, by name.
        merged: optional class mapping.
        has_gate: whether images could be set aside.
    """

    classes: ClassTable
    archive: GroupCounts = GroupCounts("")
    groups: dict[str, GroupCounts] = field(default_factory=dict)
    merged: MergedClasses | None = None
    has_gate: bool = False

    def summary(self) -> Summary:
        """The document with the share of each class, groups by name."""
        groups = {
            name: Group(**self._entry(counts)) for name, counts in sorted(self.groups.items())
        }
        return Summary(
            **self._entry(self.archive),
            precisions=by_name(self.archive.precisions),
            groups=groups,
        )

    def _entry(self, counts: GroupCounts) -> dict[str, Any]:
        zeros = (0,) * len(self.classes)
        pixels = counts.pixels or zeros
        gated = counts.gated if self.has_gate else None
        entry: dict[str, Any] = {
            "images": Images(
                done=counts.done,
                failed=counts.failed,
                skipped=counts.skipped,
                gated=gated,
                unlike=counts.unlike,
            ),
            CLASSES: _shares(self.classes.names, pixels, counts.images or zeros),
        }
        if self.merged:
            shown = counts.merged_images or (0,) * len(self.merged.names)
            entry[MERGED] = _shares(self.merged.names, self.merged.merge(pixels), shown)
        return entry


def counts_of_result(result: UnitResult) -> Iterator[GroupCounts]:
    """The counts of a segmented unit, one per image."""
    for item in result.segmented:
        shown = tuple(int(n > 0) for n in item.pixels)
        yield GroupCounts(
            item.planned.ref.group,
            done=1,
            pixels=item.pixels,
            images=shown,
            precisions=one_of(item.precision.value, 1),
            unlike=int(item.uncertainty.is_unlike) if item.uncertainty else None,
        )
    yield from counts_of_undone(result)


def counts_of_undone(result: UnitResult) -> Iterator[GroupCounts]:
    """The counts of a unit's images that failed or were left."""
    for failure in result.failures:
        yield GroupCounts(failure.planned.ref.group, failed=1)
    for planned in result.left:
        yield GroupCounts(planned.ref.group, left=1)


def counts_of_skipped(skipped: SkippedImages) -> GroupCounts:
    """The count of images that were done already."""
    return GroupCounts(skipped.group, skipped=skipped.images)


def counts_of_gated(gated: SkippedImages) -> GroupCounts:
    """The count of images that are set aside."""
    return GroupCounts(gated.group, gated=gated.images)


def counts_of_files(
    files: Iterable[str], model: str, classes: ClassTable, merged: MergedClasses | None = None
) -> Iterator[GroupCounts]:
    """The counts of the rows of `model` in statistics files; see `counts_of_table`."""
    names = [columns.PIXELS_PREFIX + key for key in classes.keys]
    wanted = [columns.MODEL, columns.GROUP, *names]
    # Files without these columns hold rows of models with other classes.
    also = [columns.PRECISION, columns.UNLIKE_TRAINING]
    for _, table in parquet.read_tables(files, wanted, names, also):
        yield from counts_of_table(table, model, classes, merged)


def counts_of_table(
    table: pa.Table, model: str, classes: ClassTable, merged: MergedClasses | None = None
) -> Iterator[GroupCounts]:
    """The counts of the rows of `model` in a table, one per group and precision."""
    names = [columns.PIXELS_PREFIX + key for key in classes.keys]
    keys = [columns.GROUP, columns.PRECISION]
    table = table.filter(pc.equal(table[columns.MODEL], model))
    added = {columns.PRECISION: stated(table), columns.UNLIKE_TRAINING: _unlike(table)}
    table = table.select([columns.GROUP, *names])
    for name, values in added.items():
        table = table.append_column(name, values)
    images, merged_images = (f"{columns.IMAGE}:", f"{columns.IMAGE}:{MERGED}:")
    for name in names:
        table = table.append_column(images + name, _shown(table[name]))
    members: dict[str, list[str]] = {}
    if merged:
        for name, position in zip(names, merged.members, strict=True):
            members.setdefault(merged_images + merged.names[position], []).append(name)
    for merged_name, of_class in members.items():
        pixels = reduce(pc.add, (table[name] for name in of_class))
        table = table.append_column(merged_name, _shown(pixels))
    sums = [(name, "sum") for name in table.column_names if name not in keys]
    grouped = table.group_by(keys).aggregate([([], "count_all"), *sums])
    for row in grouped.to_pylist():
        yield GroupCounts(
            row[columns.GROUP],
            done=row["count_all"],
            pixels=tuple(row[f"{name}_sum"] for name in names),
            images=tuple(row[f"{images}{name}_sum"] for name in names),
            merged_images=tuple(row[f"{name}_sum"] for name in members),
            precisions=one_of(named(row[columns.PRECISION]), row["count_all"]),
            unlike=row[f"{columns.UNLIKE_TRAINING}_sum"],
        )


@dataclass
class SummarisePixels(beam.PTransform):
    """Adds up counts: PCollection[GroupCounts] -> PCollection[ArchiveCounts] of one element.

    Attributes:
        classes: the classes that the pixels are counted for.
        merged: optional class mapping.
        has_gate: whether images could be set aside.
    """

    classes: ClassTable
    merged: MergedClasses | None = None
    has_gate: bool = False

    def expand(self, counts: beam.PCollection[GroupCounts]) -> beam.PCollection[ArchiveCounts]:
        groups = (
            counts
            | "KeyByGroup" >> beam.Map(_by_group).with_output_types(tuple[str, GroupCounts])
            | "AddPerGroup" >> beam.CombinePerKey(_add_counts)
            | "Groups" >> beam.Values()
        )
        return (
            counts.pipeline
            | "Classes" >> beam.Create([self.classes], reshuffle=False)
            | "Sum"
            >> beam.Map(
                _archive_counts, self.merged, self.has_gate, AsList(groups)
            ).with_output_types(ArchiveCounts)
        )


@dataclass
class CountCommitted(beam.PTransform):
    """Counts the rows in output folders: PCollection[str] -> PCollection[GroupCounts].

    Attributes:
        model: the `model_id` whose rows are counted.
        classes: its classes.
        merged: optional class mapping.
    """

    model: str
    classes: ClassTable
    merged: MergedClasses | None = None

    def expand(self, outputs: beam.PCollection[str]) -> beam.PCollection[GroupCounts]:
        return (
            outputs
            | "FindRows" >> beam.FlatMap(parquet.file_blocks, columns.STATISTICS)
            | "SpreadRowFiles" >> beam.Reshuffle()
            | "CountRows" >> beam.FlatMap(_count_files, self.model, self.classes, self.merged)
        )


def write_summary(counts: ArchiveCounts, output: str, owner: str = "") -> Summary:
    """Write `summary.json` and `summary.csv`.

    If the run was asked to stop, the summary has the reason and the number of images left.

    Raises:
        LockLostError: `owner` has lost the lock of the folder, see `fencing.check`.
        StorageError: they cannot be written.
    """
    summary, left = counts.summary(), counts.archive.left
    reason = stopping.reason(output) or (stopping.MAX_IMAGES if left else None)
    if reason is not None:
        summary = summary.model_copy(update={"interrupted": Interrupted(reason=reason, left=left)})
    fence = Fence(output, owner)
    fence.write(columns.SUMMARY_JSON, summary.to_json().encode())
    fence.write(columns.SUMMARY_CSV, summary.to_csv().encode())
    return summary


def _add(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True)) if a and b else tuple(a or b)


def _add_known(a: int | None, b: int | None) -> int | None:
    return (a or 0) + (b or 0) if (a, b) != (None, None) else None


def _by_group(counts: GroupCounts) -> tuple[str, GroupCounts]:
    return counts.group, counts


def _add_counts(counts: Iterable[GroupCounts]) -> GroupCounts:
    first, *others = counts
    return sum(others, first)


def _archive_counts(
    classes: ClassTable,
    merged: MergedClasses | None,
    has_gate: bool,
    groups: Sequence[GroupCounts],
) -> ArchiveCounts:
    archive = sum(groups, GroupCounts(""))
    by_name = {counts.group: counts for counts in groups}
    return ArchiveCounts(classes, archive, by_name, merged, has_gate)


def _shares(names: Sequence[str], pixels: Sequence[int], images: Sequence[int]) -> list[ClassShare]:
    total = sum(pixels)
    return [
        ClassShare(name=name, pixels=n, fraction=n / total if total else 0.0, images=shown)
        for name, n, shown in zip(names, pixels, images, strict=True)
    ]


def _unlike(table: pa.Table) -> pa.Array | pa.ChunkedArray:
    """1 for an image that is unlike those the model knows, 0 for others, null where not known.

    In rows of older versions a column of that name came from a manifest.
    """
    if columns.UNLIKE_TRAINING in table.column_names:
        found = table[columns.UNLIKE_TRAINING]
        if found.type == pa.bool_():
            return found.cast(pa.int64())
    return pa.nulls(len(table), pa.int64())


def _shown(pixels: pa.ChunkedArray) -> pa.ChunkedArray:
    """1 for an image that shows the class, else 0."""
    return pc.cast(pc.greater(pixels, 0), pa.int64())


def _count_files(
    files: tuple[str, ...], model: str, classes: ClassTable, merged: MergedClasses | None
) -> Iterator[GroupCounts]:
    for counts in counts_of_files(files, model, classes, merged):
        Metrics.counter(COUNTERS, "rows_counted").inc(counts.done)
        for name, rows in by_name(counts.precisions).items():
            Metrics.counter(PRECISIONS, name).inc(rows)
        yield counts
