"""Reports: a page about an output folder, from what a user asks for to where the page is."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from models.indicators import IndicatorError, Indicators
from pipeline import __version__
from pipeline.console import logger
from pipeline.errors import ConfigurationError, first_line
from pipeline.nights import comparing
from pipeline.runners.options import new_pipeline, pipeline_options
from pipeline.runs import record as run_record
from transforms import storage
from transforms.output import archives, columns
from transforms.output.archives import Archive, ArchiveError
from transforms.reporting import DEFAULT_GALLERY, contract, document
from transforms.reporting.document import Frame
from transforms.reporting.graph import ReportJob, build_graph
from transforms.reporting.measuring import Measures
from transforms.reporting.tiles import check_tiles, host_of

MOST_NIGHTS = 1_000

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


def prepare(request: ReportRequest) -> ReportJob:
    """Check a request, and read what is not rows.

    Raises:
        ConfigurationError: there are no results, none of such a model, or the indicators or tiles
            are none.
    """
    try:
        storage.check_writable(request.output)
        archive = archives.open_archive(request.output, request.model)
        indicators = Indicators.load(archive.classes, request.indicators)
        records = comparing.read_records(archive.output)
    except (ArchiveError, IndicatorError, storage.StorageError) as error:
        raise ConfigurationError(str(error)) from error
    newest = document.plain(records[-1]) if records else None
    frame = Frame(
        created_at=run_record.utc_now(),
        version=__version__,
        nights=tuple(nights_of(records[-MOST_NIGHTS:], archive)),
        settings=_settings(newest) if newest else None,
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
    return f"{job.archive.output}/{columns.REPORT}"


def try_report(request: ReportRequest) -> str:
    """Write the report of a run that has ended, in this process; say in one line if that fails.

    Whatever goes wrong here, the results of the run stand. Where nothing does, the line is empty.
    """
    try:
        write_report(prepare(request), pipeline_options({}))
    except Exception as error:
        logger.debug("the report", exc_info=True)
        return f"Error: the report could not be written: {first_line(error)}"
    return ""


def nights_of(records: Iterable[Mapping[str, Any]], archive: Archive) -> Iterator[contract.Night]:
    """The runs, as the page is told of them; a record that is none of a run is passed over."""
    for record in records:
        try:
            yield _night(record, archive)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            logger.warning(
                "run %s: its record cannot be shown (%s)", record[columns.RUN_ID], first_line(error)
            )


def _night(record: Mapping[str, Any], archive: Archive) -> contract.Night:
    pixels = record.get(comparing.PIXELS) or {}
    total = sum(pixels.values()) if record.get(columns.MODEL) == archive.model else 0
    alarms = (record.get(COMPARISON) or {}).get(ALARMS, [])
    return contract.Night(
        run_id=record[columns.RUN_ID],
        started_at=record[comparing.STARTED_AT],
        seconds=record["seconds"],
        images=record[comparing.IMAGES],
        images_per_second=record[comparing.IMAGES_PER_SECOND],
        shares=[
            round(pixels.get(name, 0) / total, contract.DIGITS) for name in archive.classes.names
        ]
        if total
        else None,
        alarms=[str(comparing.Alarm(**alarm)) for alarm in alarms],
        interrupted=record.get("interrupted"),
    )


def _settings(record: Mapping[str, Any]) -> contract.Settings:
    return contract.Settings(
        run_id=record[columns.RUN_ID],
        options=record.get("options") or {},
        versions=record.get("versions") or {},
    )


def tiles_of(url: str, attribution: str | None) -> contract.Tiles:
    """The background of the map; raises ConfigurationError where the URL is none of tiles."""
    try:
        return contract.Tiles(url=check_tiles(url), attribution=attribution or host_of(url))
    except ValueError as error:
        raise ConfigurationError(f"--tiles: {error}") from error
