"""The Beam graph of a report: from rows, photos and masks to a page.

    statistics --survey--> how coarse the map is
    statistics --gather--> totals, sums per group and cell, points, candidates for the gallery
    candidates --choose--> gallery --locate--> photos and masks --> pictures
    all of them --> data.js

Rows are looked at some files at a time; pixels stay in the step that makes pictures. The old report
goes when everything is counted, and `data.js` is written last: without it there is no report.
"""

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsIter, AsSingleton, TaggedOutput

from transforms import storage
from transforms.flow.concurrency import Pause, map_ahead, map_requests
from transforms.measures import aggregating
from transforms.measures.hexagons import cell_keys
from transforms.output import archives, columns, failures, fencing, parquet
from transforms.output.archives import Archive
from transforms.reporting import (
    contract,
    document,
    mapping,
    selection,
    surveying,
    totals,
)
from transforms.reporting.document import Frame, Gathered
from transforms.reporting.locating import container_of, locate
from transforms.reporting.measuring import Measures
from transforms.reporting.pictures import Made, Wanted, make_pictures
from transforms.reporting.reading import read_photos
from transforms.reporting.selection import Rules
from transforms.reporting.surveying import Survey

logger = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("page")
"""What of a report is the same for all."""

THREADS = 4
"""Photos whose pictures are made at a time in a process: their masks are decoded whole."""

PHOTOS_PER_BLOCK = 16

TOTALS, ARCHIVE, GROUPS, CELLS, POINTS, CANDIDATES, DONE = (
    "totals", "archive", "groups", "cells", "points", "candidates", "done",
)  # fmt: skip
"""Outputs of `Gather`."""


@dataclass(frozen=True)
class ReportJob:
    """What is to be written.

    Attributes:
        archive: the rows that are shown.
        measures: what each photo has a value of.
        gallery: most photos in the gallery.
        frame: what is said besides the rows.
        owner: who holds the lock of the output folder, see `output.fencing.check`.
    """

    archive: Archive
    measures: Measures
    gallery: int
    frame: Frame
    owner: str = ""

    @property
    def rules(self) -> Rules:
        """How the gallery is filled."""
        return Rules(self.gallery, tuple(self.measures.names))


@dataclass
class WriteReport(beam.PTransform):
    """Writes a report: a pipeline -> PCollection[str], the path of its page.

    Nobody may write to the output folder meanwhile.

    Attributes:
        job: what is to be written.
    """

    job: ReportJob

    def expand(self, start: beam.pvalue.PBegin) -> beam.PCollection[str]:
        job = self.job
        archive, measures = job.archive, job.measures
        output = start.pipeline | "Output" >> beam.Create([archive.output], reshuffle=False)
        files = (
            output
            | "FindRows" >> beam.FlatMap(parquet.file_blocks, columns.STATISTICS)
            | "SpreadRowFiles" >> beam.Reshuffle()
        )
        failing = output | "ReadFailures" >> beam.Map(failures.newest_failures)
        survey = (
            files
            | "Survey" >> beam.Map(survey_files, archive, mapping.most_cells(measures))
            | "AddSurveys"
            >> beam.CombineGlobally(
                partial(surveying.add_surveys, limit=mapping.most_cells(measures))
            )
        )
        parts = files | "Gather" >> beam.ParDo(
            Gather(job), AsSingleton(survey), AsSingleton(failing)
        ).with_outputs(TOTALS, ARCHIVE, GROUPS, CELLS, POINTS, CANDIDATES, DONE)
        counted = parts[TOTALS] | "AddTotals" >> beam.CombineGlobally(
            partial(totals.add_totals, measures=measures)
        )
        sums = [
            parts[name] | f"Add_{name}" >> beam.CombineGlobally(add_sums)
            for name in (ARCHIVE, GROUPS, CELLS)
        ]
        candidates = parts[CANDIDATES] | "MergeCandidates" >> beam.CombineGlobally(
            partial(selection.merge_candidates, rules=job.rules)
        )
        gathered = output | "Settle" >> beam.Map(
            settle,
            job,
            AsSingleton(survey),
            AsSingleton(counted),
            *map(AsSingleton, sums),
            AsIter(parts[POINTS]),
            AsSingleton(candidates),
            AsSingleton(failing),
            AsIter(parts[DONE]),
        )
        pictures = (
            gathered
            | "Begin" >> beam.FlatMap(begin, archive.output, job.owner)
            | "ByContainer" >> beam.Map(by_container)
            | "GroupByContainer" >> beam.GroupByKey()
            | "Locate" >> beam.FlatMap(locate_all)
            | "SpreadPhotos" >> beam.Reshuffle()
            | "BlockPhotos" >> beam.BatchElements(PHOTOS_PER_BLOCK, PHOTOS_PER_BLOCK)
            | "WritePictures" >> beam.FlatMap(write_pictures, archive)
        )
        return gathered | "WriteData" >> beam.Map(write_data, job, AsIter(pictures))


def survey_files(files: tuple[str, ...], archive: Archive, limit: int) -> Survey:
    """The survey of statistics files."""
    tables = archives.statistics_of(archive, files, (columns.LATITUDE, columns.LONGITUDE))
    return surveying.add_surveys((surveying.survey_of(table, limit) for table in tables), limit)


class Gather(beam.DoFn):
    """Counts the rows of statistics files."""

    def __init__(self, job: ReportJob):
        self._job = job

    def process(self, files, survey, failing):
        for table in read_photos(self._job.archive, files):
            derived = self._job.measures.derive(table)
            for name, found in gather(derived, self._job, survey):
                yield TaggedOutput(name, found)
            yield TaggedOutput(DONE, failures.done_among(failing, derived))


def gather(derived: pa.Table, job: ReportJob, survey: Survey) -> Iterator[tuple[str, Any]]:
    """What derived rows add to each output of `Gather`."""
    measures = job.measures
    keys = {ARCHIVE: aggregating.archive_keys(derived), GROUPS: aggregating.group_keys(derived)}
    yield TOTALS, totals.totals_of(derived, measures)
    if mapping.shows_points(survey, measures):
        yield POINTS, mapping.points_of(derived, measures)
    else:
        keys[CELLS] = cell_keys(derived, survey.resolution)
    for name, of_rows in keys.items():
        yield name, aggregating.sums_per_key(derived, of_rows, measures.names)
    if job.gallery:
        resolution = survey.resolution_for(job.rules.cells)
        yield CANDIDATES, selection.candidates_of(derived, job.rules, resolution)


def add_sums(sums: Iterable[pa.Table | None]) -> pa.Table | None:
    """The sums of all photos that some sums are of; None where there are none."""
    found = [table for table in sums if table is not None]
    return aggregating.add_sums(found) if found else None


def settle(
    _: str,
    job: ReportJob,
    survey: Survey,
    counted: totals.Totals,
    archive: pa.Table | None,
    groups: pa.Table | None,
    cells: pa.Table | None,
    points: Iterable[pa.Table],
    candidates: pa.Table | None,
    failing: pa.Table,
    done: Iterable[pa.Array],
) -> Gathered:
    """Put together what was counted, and choose the gallery."""
    placed = list(points)
    return Gathered(
        survey=survey,
        totals=counted,
        archive=archive,
        groups=None if groups is None else document.largest_groups(groups),
        group_count=0 if groups is None else len(groups),
        cells=cells,
        points=pa.concat_tables(placed) if placed else None,
        failures=failures.still_failing(failing, done),
        chosen=None
        if candidates is None
        else selection.choose(candidates, job.measures, job.rules),
    )


def begin(gathered: Gathered, output: str, owner: str = "") -> list[Wanted]:
    """Begin a report in place of an older one; the pictures it needs."""
    fencing.check(output, owner)
    remove_report(output)
    for file in sorted(PAGE.rglob("*")):
        if file.is_file():
            name = f"{contract.FOLDER}/{file.relative_to(PAGE).as_posix()}"
            storage.write(output, name, file.read_bytes())
    return document.wanted_pictures(gathered.chosen) if gathered.chosen else []


def remove_report(output: str) -> None:
    """Remove what an older report has written, its data first; raises StorageError."""
    folder = f"{output}/{contract.FOLDER}"
    if not storage.is_folder(folder):
        return
    if storage.exists(f"{output}/{contract.DATA}"):
        storage.remove(output, contract.DATA)
    ours = {contract.PHOTOS.rpartition("/")[2], *(entry.name for entry in PAGE.iterdir())}
    start = len(folder) + 1
    found = (file.path[start:] for file in storage.walk(storage.Part(folder), follow_links=False))
    stale = [name for name in found if name.partition("/")[0] in ours]
    for _ in map_requests(partial(storage.remove, folder), stale):
        pass


def by_container(wanted: Wanted) -> tuple[str, Wanted]:
    """A photo with the file that holds it."""
    return container_of(wanted.uri), wanted


def locate_all(grouped: tuple[str, Iterable[Wanted]]) -> Iterator[Wanted]:
    """The photos of one file, each with where it is in there, as far as that is known."""
    container, photos = grouped[0], list(grouped[1])
    try:
        refs = {ref.uri: ref for ref in locate(container, (photo.uri for photo in photos))}
    except storage.StorageError as error:
        logger.debug("%s: no pictures of it in the report: %s", container, error)
        refs = {}
    for photo in photos:
        yield replace(photo, ref=refs.get(photo.uri))


def write_pictures(block: Iterable[Wanted], archive: Archive) -> Iterator[Made]:
    """Write the pictures of photos, and say what could be made."""

    def write(wanted: Wanted) -> Made:
        made, files = make_pictures(wanted, archive)
        for name, data in files.items():
            storage.write(archive.output, name, data)
        return made

    with ThreadPoolExecutor(THREADS, "picture") as pool:
        for written in map_ahead(pool, write, block, 2 * THREADS):
            assert not isinstance(written, Pause), "there is no pause among the photos"
            yield written


def write_data(gathered: Gathered, job: ReportJob, pictures: Iterable[Made]) -> str:
    """Write `data.js`; return the path of the page. Raises what `fencing.write` raises."""
    made = list(pictures)
    if gone := sum(not each.photo for each in made):
        logger.info("%d of %d photos of the gallery are gone or have changed", gone, len(made))
    if gone := sum(not each.mask for each in made):
        logger.warning(
            "%d of %d masks of the gallery cannot be read; `citymask verify %s` looks closer",
            gone,
            len(made),
            job.archive.output,
        )
    photos = {each.id: each.photo for each in made}
    report = document.build(job.archive, job.measures, gathered, job.frame, photos)
    storage.flush(job.archive.output)
    fencing.write(job.archive.output, contract.DATA, report.to_script(), job.owner)
    return f"{job.archive.output}/{columns.REPORT}"
