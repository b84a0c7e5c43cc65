"""Verifying: checks that the files of an output folder are whole and that masks match rows.

Whatever is wrong becomes a `Finding`, and everything is checked. Only names and findings
are shuffled, never pixels.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from transforms import storage
from transforms.checking.row_checks import (
    IDENTITY,
    REQUIRED,
    Expected,
    check_file,
    count_palettes,
    expected_masks,
    why_unreadable,
)
from transforms.flow.blocks import BlockByName
from transforms.output import columns, names, parquet
from transforms.output.findings import (
    FILE_UNREADABLE,
    MASK_ORPHAN,
    ROW_DOUBLED,
    Finding,
    write_findings,
)

COUNTERS = "citymask.verifying"
"""Namespace of the Beam counters of these steps: `MASKS`, and `ROWS_OF` and the model."""

MASKS = "masks"
ROWS_OF = "rows: "

READABLE = "readable"
FINDINGS = "findings"
DOUBLED = "doubled"
FILES = "files"
ROWS = "rows"

_SHARED_BYTES = 200
"""Names that are cut for being too long still share this much."""


@dataclass(frozen=True)
class NamedRow:
    """What is joined of a row: of what it is, its mask, and where it stands.

    Attributes:
        image, model, run_id, mask: as in the columns.
        file: path of the statistics file.
        position: of the row in the file, from 0.
    """

    image: str
    model: str
    run_id: str
    mask: str
    file: str
    position: int


def named_rows(file: str) -> Iterator[NamedRow]:
    """The rows of a readable statistics file."""
    for position, row in enumerate(parquet.read_rows(file, IDENTITY)):
        yield NamedRow(file=file, position=position, **row)


def mask_folders(output: str) -> list[str]:
    """The folders of masks in an output folder."""
    found = (os.path.basename(folder) for folder in storage.folders(output))
    return sorted(filter(names.is_mask_folder, found))


def mask_files(output: str) -> Iterator[str]:
    """Paths below `output` of the masks, overlays and confidence images in its mask folders.

    Links to folders are not followed: what is found here may be removed. Nor are names given that
    are not UTF-8, since citymask makes none.
    """
    for mask_folder in mask_folders(output):
        part = storage.Part(f"{output}/{mask_folder}")
        for file in storage.walk(part, follow_links=False):
            path = file.path[len(output) + 1 :]
            if path.endswith((names.MASK_ENDING, *names.BESIDE.values())) and _is_text(path):
                yield path


def doubled_rows(of_names: Iterable[NamedRow]) -> list[NamedRow]:
    """The rows whose image has a row of the same model that stands: as in planning, the newest."""
    standing: dict[tuple[str, str], NamedRow] = {}
    doubled = []
    for row in sorted(of_names, key=lambda row: (row.run_id, row.file, -row.position))[::-1]:
        if standing.setdefault((row.image, row.model), row) is not row:
            doubled.append(row)
    return doubled


def orphans(files: Iterable[str], masks: Iterable[str]) -> list[str]:
    """The files that are none of the masks, and stand beside none of them.

    Names that some file systems take for one are one here.
    """
    known = {
        names.folded(path)
        for mask in masks
        for path in (mask, *(names.beside(mask, output) for output in names.BESIDE))
    }
    return sorted(path for path in files if names.folded(path) not in known)


def shared_name(path: str) -> str:
    """What the path of a mask has in common with those of what stands beside it.

    That is the name of the image, up to where `transforms.output.names` may have put a hash.
    """
    folder, _, name = names.folded(path.partition("/")[2]).rpartition("/")
    for ending in (*names.BESIDE.values(), names.MASK_ENDING):
        if name.endswith(ending):
            name = name.removesuffix(ending)
            break
    name = name.partition("~")[0].encode()[:_SHARED_BYTES].decode(errors="ignore")
    return f"{folder}/{name}"


def settle(findings: Sequence[Finding], output: str, owner: str = "") -> None:
    """Write what was found; raises what `write_findings` raises.

    While rows cannot be read, nobody knows which files belong to no row, and none is said to.
    """
    rows_unknown = any(
        finding.kind == FILE_UNREADABLE and finding.path.startswith(f"{columns.STATISTICS}/")
        for finding in findings
    )
    kept = (f for f in findings if not (rows_unknown and f.kind == MASK_ORPHAN))
    write_findings(output, kept, owner)


def summary_note(output: str, rows_of_models: dict[str, int]) -> str:
    """A line that says that the summary differs from the rows; empty where it does not.

    The summary does not name its model: it is that of the newest run record.
    """
    try:
        *_, newest = storage.list_folder(f"{output}/{columns.RUNS}", ".json")
        model = json.loads(storage.read(newest.path))["model"]
        summary = json.loads(storage.read(f"{output}/{columns.SUMMARY_JSON}"))
        done, found = summary["images"]["done"], rows_of_models.get(model, 0)
    except (storage.StorageError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    if done == found:
        return ""
    return (
        f"{columns.SUMMARY_JSON} counts {done} images of {model}, there are {found} rows of them; "
        "the next run rewrites it"
    )


@dataclass
class VerifyOutput(beam.PTransform):
    """Looks for everything that is wrong in an output folder: a pipeline -> PCollection[Finding].

    Nobody may write there meanwhile.

    Attributes:
        output: the output folder.
    """

    output: str

    def expand(self, start: beam.pvalue.PBegin) -> beam.PCollection[Finding]:
        output = start.pipeline | "Output" >> beam.Create([self.output])
        statistics, unreadable = self._readable(output, columns.STATISTICS)
        _, unreadable_failures = self._readable(output, columns.FAILURES)
        _, unreadable_gated = self._readable(output, columns.GATED)
        expected = (
            statistics
            | "CountPalettes" >> beam.FlatMap(count_palettes, self.output)
            | "AddUpPalettes" >> beam.CombinePerKey(sum)
            | "Palettes" >> beam.combiners.ToList()
            | "ExpectedMasks" >> beam.Map(expected_masks, self.output)
        )
        named = (
            statistics
            | "NameRows" >> beam.FlatMap(_named_rows).with_output_types(NamedRow)
            | "BlockRows" >> beam.ParDo(BlockByName(_mask_name))
        )
        files = (
            output
            | "FindMasks" >> beam.FlatMap(mask_files)
            | "BlockMasks" >> beam.ParDo(BlockByName(shared_name))
        )
        joined = (
            {ROWS: named, FILES: files}
            | "JoinByName" >> beam.CoGroupByKey()
            | "Compare" >> beam.ParDo(_Compare(self.output)).with_outputs(DOUBLED, main=FINDINGS)
        )
        checked = (
            {FILES: statistics | "Files" >> beam.Map(_with_nothing), DOUBLED: joined[DOUBLED]}
            | "JoinByFile" >> beam.CoGroupByKey()
            | "CheckMasks"
            >> beam.FlatMap(_check_file, self.output, beam.pvalue.AsSingleton(expected))
        )
        unreadable_files = unreadable, unreadable_failures, unreadable_gated
        return (*unreadable_files, joined[FINDINGS], checked) | beam.Flatten()

    def _readable(self, output: beam.PCollection[str], folder: str):
        """The Parquet files of a folder that can be read, and findings of the others."""
        found = (
            output
            | f"Find_{folder}" >> beam.FlatMap(parquet.files_in, folder)
            | f"Spread_{folder}" >> beam.Reshuffle()
            | f"Read_{folder}"
            >> beam.FlatMap(_try_file, self.output, folder).with_outputs(FINDINGS, main=READABLE)
        )
        return found[READABLE], found[FINDINGS]


class _Compare(beam.DoFn):
    """Finds doubled rows and orphans among the rows and files of a bucket."""

    def __init__(self, output: str):
        self._output = output

    def process(self, element):
        _, joined = element
        of_bucket = [row for block in joined[ROWS] for row in block.items]
        files = (path for block in joined[FILES] for path in block.items)
        for path in orphans(files, (row.mask for row in of_bucket)):
            version = storage.find(os.path.join(self._output, path)).version
            message = "no row names it, nor the mask that it stands beside"
            yield Finding(MASK_ORPHAN, path, version, "", "", "", message)
        for row in doubled_rows(of_bucket):
            yield beam.pvalue.TaggedOutput(DOUBLED, (row.file, row.position))
            yield Finding(
                ROW_DOUBLED,
                os.path.relpath(row.file, self._output),
                storage.find(row.file).version,
                row.image,
                row.model,
                row.run_id,
                "another row of the image stands, as new or newer",
            )


def _try_file(file: str, output: str, folder: str) -> Iterator[Any]:
    reason = why_unreadable(file, REQUIRED[folder])
    if reason:
        path, version = os.path.relpath(file, output), storage.find(file).version
        finding = Finding(FILE_UNREADABLE, path, version, "", "", "", reason)
        yield beam.pvalue.TaggedOutput(FINDINGS, finding)
    else:
        yield file


def _named_rows(file: str) -> Iterator[NamedRow]:
    for row in named_rows(file):
        Metrics.counter(COUNTERS, ROWS_OF + row.model).inc()
        yield row


def _mask_name(row: NamedRow) -> str:
    return shared_name(row.mask)


def _with_nothing(file: str) -> tuple[str, None]:
    return file, None


def _check_file(
    joined: tuple[str, dict[str, Iterable[Any]]], output: str, expected: dict[str, Expected]
) -> Iterator[Finding]:
    file, sides = joined
    for finding in check_file(file, output, set(sides[DOUBLED]), expected):
        if finding is None:
            Metrics.counter(COUNTERS, MASKS).inc()
        else:
            yield finding


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
