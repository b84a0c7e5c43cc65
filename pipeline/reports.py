"""The report: a page about an output folder, made of its rows, photos, masks and run records.

    statistics --survey--> how coarse the map is
    statistics --gather--> totals, sums per group and cell, points, candidates for the gallery
    candidates --choose--> gallery --locate--> photos and masks --> pictures
    all of them --> data.js

Rows are looked at a file at a time; pixels stay inside the step that makes pictures. The old report
goes when everything is counted, and `data.js` is written last: without it there is no report.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsIter, AsSingleton, TaggedOutput

from models.indicators import IndicatorError, Indicators
from pipeline import __version__, nights, run_record
from pipeline.beam_options import new_pipeline, pipeline_options
from pipeline.console import logger
from pipeline.errors import ConfigurationError, first_line
from transforms import aggregating, archives, columns, rows, storage
from transforms.archives import Archive, ArchiveError
from transforms.concurrency import Pause, map_ahead, map_requests
from transforms.reporting import contract, document, failing, mapping, selection, surveying, totals
from transforms.reporting.document import Frame, Gathered
from transforms.reporting.locating import container_of, locate
from transforms.reporting.measuring import Measures
from transforms.reporting.pictures import Wanted, make_pictures
from transforms.reporting.selection import Rules
from transforms.reporting.surveying import Survey

PAGE = Path(__file__).with_name("report_page")
"""What of a report is the same for all."""

INDEX = f"{contract.FOLDER}/index.html"

DEFAULT_GALLERY = 500

THREADS = 4
"""Photos whose pictures are made at a time in a process: their masks are decoded whole."""

PHOTOS_PER_BLOCK = 16

TOTALS, ARCHIVE, GROUPS, CELLS, POINTS, CANDIDATES, DONE = (
    "totals", "archive", "groups", "cells", "points", "candidates", "done",
)  # fmt: skip
"""Outputs of `Gather`."""

ALARMS = "alarms"
COMPARISON = "comparison"
"""Keys of a run record."""


@dataclass(frozen=True)
class ReportRequest:
    """What a user asked for.

    Attributes:
        output: the output folder.
        model: a model id, or the name before its `@`; None: the model that ran last.
        gallery: most photos in the gallery.
        tiles: URL template of the map's background with {z}, {x} and {y}; None: none.
        attribution: who is to be named for the tiles; None: their host.
        indicators: YAML file of indicators; None: the usual ones.
    """

    output: str
    model: str | None = None
    gallery: int = DEFAULT_GALLERY
    tiles: str | None = None
    attribution: str | None = None
    indicators: str | None = None


@dataclass(frozen=True)
class ReportJob:
    """What is to be written.

    Attributes:
        archive: the rows that are shown.
        measures: what each photo has a value of.
        gallery: most photos in the gallery.
        frame: what is said besides the rows.
    """

    archive: Archive
    measures: Measures
    gallery: int
    frame: Frame

    @property
    def rules(self) -> Rules:
        """How the gallery is filled."""
        return Rules(self.gallery, tuple(self.measures.names))


def prepare(request: ReportRequest) -> ReportJob:
    """Check a request, and read what is not rows.

    Raises:
        ConfigurationError: there are no results, none of such a model, or the indicators or tiles
            are none.
    """
    if not storage.writable(request.output):
        raise ConfigurationError(f"{request.output}: OUT is a local folder or gs://BUCKET/NAME")
    try:
        archive = archives.open_archive(request.output, request.model)
        indicators = Indicators.load(archive.classes, request.indicators)
        records = nights.read_records(archive.output)
    except (ArchiveError, IndicatorError, storage.StorageError) as error:
        raise ConfigurationError(str(error)) from error
    newest = document.plain(records[-1]) if records else None
    frame = Frame(
        created_at=run_record.utc_now(),
        version=__version__,
        skipped=newest[nights.IMAGES].get("skipped", 0) if newest else 0,
        nights=tuple(night_of(record, archive) for record in records),
        settings=settings_of(newest) if newest else None,
        tiles=tiles_of(request.tiles, request.attribution) if request.tiles else None,
    )
    return ReportJob(archive, Measures(archive.classes, indicators), request.gallery, frame)


def write_report(job: ReportJob, beam_options: PipelineOptions) -> str:
    """Write a report; return the path of its page. Call it while nobody else writes there.

    Raises:
        ConfigurationError: Beam does not know the runner or misses an option for it.
        StorageError: rows cannot be read, or the report not be written.
    """
    pipeline = new_pipeline(beam_options)
    build_graph(pipeline, job)
    pipeline.run().wait_until_finish()
    return f"{job.archive.output}/{INDEX}"


def try_report(request: ReportRequest) -> str | None:
    """Write the report of a run that has ended, in this process; why that failed, or None.

    Whatever goes wrong here, the results of the run stand.
    """
    try:
        write_report(prepare(request), pipeline_options({}))
    except Exception as error:
        logger.debug("the report", exc_info=True)
        return f"the report was not written: {first_line(error)}"
    return None


def build_graph(pipeline: beam.Pipeline, job: ReportJob) -> None:
    """Add the steps that write a report."""
    archive, measures = job.archive, job.measures
    output = pipeline | "Output" >> beam.Create([archive.output], reshuffle=False)
    files = (
        output
        | "FindRows" >> beam.FlatMap(rows.file_blocks, columns.STATISTICS)
        | "SpreadRowFiles" >> beam.Reshuffle()
    )
    failures = output | "ReadFailures" >> beam.Map(read_failures)
    survey = (
        files
        | "Survey" >> beam.FlatMap(survey_files, archive, mapping.most_cells(measures))
        | "AddSurveys"
        >> beam.CombineGlobally(partial(surveying.add_surveys, limit=mapping.most_cells(measures)))
    )
    parts = files | "Gather" >> beam.ParDo(
        Gather(job), AsSingleton(survey), AsSingleton(failures)
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
        AsSingleton(failures),
        AsIter(parts[DONE]),
    )
    pictures = (
        gathered
        | "Begin" >> beam.FlatMap(begin, archive.output)
        | "ByContainer" >> beam.Map(by_container)
        | "GroupByContainer" >> beam.GroupByKey()
        | "Locate" >> beam.FlatMap(locate_all)
        | "SpreadPhotos" >> beam.Reshuffle()
        | "BlockPhotos" >> beam.BatchElements(PHOTOS_PER_BLOCK, PHOTOS_PER_BLOCK)
        | "WritePictures" >> beam.FlatMap(write_pictures, archive)
    )
    _ = gathered | "WriteData" >> beam.Map(write_data, job, AsIter(pictures))


def survey_files(files: Iterable[str], archive: Archive, limit: int) -> Iterator[Survey]:
    """The surveys of statistics files."""
    for table in archives.statistics_of(
        archive, tuple(files), (columns.LATITUDE, columns.LONGITUDE)
    ):
        yield surveying.survey_of(table, limit)


def read_failures(output: str) -> pa.Table:
    """The newest failure of each image of an output folder."""
    return failing.newest_failures(rows.parquet_files(output, columns.FAILURES))


class Gather(beam.DoFn):
    """Counts the rows of statistics files, a file at a time."""

    def __init__(self, job: ReportJob):
        self._job = job

    def process(self, files, survey, failures):
        for table in archives.statistics_of(self._job.archive, files):
            if len(table):
                derived = self._job.measures.derive(table)
                for name, found in gather(derived, self._job, survey):
                    yield TaggedOutput(name, found)
                yield TaggedOutput(DONE, failing.done_among(failures, derived))


def gather(derived: pa.Table, job: ReportJob, survey: Survey) -> Iterator[tuple[str, Any]]:
    """What derived rows add to each output of `Gather`."""
    measures = job.measures
    keys = {ARCHIVE: aggregating.archive_keys(derived), GROUPS: aggregating.group_keys(derived)}
    yield TOTALS, totals.totals_of(derived, measures)
    if mapping.shows_points(survey, measures):
        yield POINTS, mapping.points_of(derived, measures)
    else:
        keys[CELLS] = aggregating.cell_keys(derived, survey.resolution)
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
    failures: pa.Table,
    done: Iterable[pa.Array],
) -> Gathered:
    """Put together what was counted, and choose the gallery."""
    placed = list(points)
    return Gathered(
        survey,
        counted,
        archive,
        groups,
        cells,
        pa.concat_tables(placed) if placed else None,
        failing.still_failing(failures, done),
        selection.choose(candidates, job.measures, job.rules) if candidates is not None else None,
    )


def begin(gathered: Gathered, output: str) -> list[Wanted]:
    """Begin a report in place of an older one; the pictures it needs."""
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
    if storage.find(f"{output}/{contract.DATA}").size >= 0:
        storage.remove(f"{output}/{contract.DATA}")
    ours = {contract.PHOTOS.rpartition("/")[2], *(entry.name for entry in PAGE.iterdir())}
    start = len(folder) + 1
    found = (file.path for file in storage.walk(storage.Part(folder), follow_links=False))
    stale = [path for path in found if path[start:].partition("/")[0] in ours]
    for _ in map_requests(storage.remove, stale):
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
        logger.info("%s: no pictures of it in the report: %s", container, error)
        refs = {}
    for photo in photos:
        yield replace(photo, ref=refs.get(photo.uri))


def write_pictures(block: Iterable[Wanted], archive: Archive) -> Iterator[tuple[str, bool]]:
    """Write the pictures of photos; their ids, and whether there is one of the photo itself."""

    def write(wanted: Wanted) -> tuple[str, bool]:
        pictures = make_pictures(wanted, archive)
        for name, data in pictures.files.items():
            storage.write(archive.output, name, data)
        return pictures.id, pictures.photo

    with ThreadPoolExecutor(THREADS, "picture") as pool:
        for written in map_ahead(pool, write, block, 2 * THREADS):
            assert not isinstance(written, Pause), "there is no pause among the photos"
            yield written


def write_data(gathered: Gathered, job: ReportJob, pictures: Iterable[tuple[str, bool]]) -> None:
    """Write `data.js`; raises StorageError."""
    report = document.build(job.archive, job.measures, gathered, job.frame, dict(pictures))
    storage.write(job.archive.output, contract.DATA, report.to_script())


def night_of(record: Mapping[str, Any], archive: Archive) -> contract.Night:
    """A run, as the page is told of it."""
    pixels = record.get(nights.PIXELS) or {}
    total = sum(pixels.values()) if record.get(columns.MODEL) == archive.model else 0
    alarms = (record.get(COMPARISON) or {}).get(ALARMS, [])
    return contract.Night(
        run_id=record[columns.RUN_ID],
        started_at=record[nights.STARTED_AT],
        seconds=record["seconds"],
        images=record[nights.IMAGES],
        images_per_second=record[nights.IMAGES_PER_SECOND],
        shares=[
            round(pixels.get(name, 0) / total, contract.DIGITS) for name in archive.classes.names
        ]
        if total
        else None,
        alarms=[str(nights.Alarm(**alarm)) for alarm in alarms],
        interrupted=record["interrupted"],
    )


def settings_of(record: Mapping[str, Any]) -> contract.Settings:
    """What a run was asked for, as the page is told of it."""
    return contract.Settings(
        run_id=record[columns.RUN_ID], options=record["options"], versions=record["versions"]
    )


def tiles_of(url: str, attribution: str | None) -> contract.Tiles:
    """The background of the map; raises ConfigurationError where the URL is none of tiles."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"--tiles: {url!r} is not an http(s) URL")
    missing = [name for name in ("{z}", "{x}", "{y}") if name not in url]
    if missing:
        raise ConfigurationError(
            f"--tiles: {url!r} lacks {' and '.join(missing)}; "
            "expected one such as https://HOST/{z}/{x}/{y}.png"
        )
    return contract.Tiles(url=url, attribution=attribution or parts.hostname)
