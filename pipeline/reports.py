"""Reports: a page about an output folder, from what a user asks for to where the page is."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from signal import Signals
from typing import Any

from models.indicators import IndicatorError, Indicators
from pipeline import __version__
from pipeline.errors import ConfigurationError, first_line
from pipeline.nights.comparing import Alarm
from pipeline.runners import LocalRunner, Runner
from transforms import storage
from transforms.output import archives, columns
from transforms.output.archives import Archive, ArchiveError
from transforms.output.locking import LockLostError
from transforms.output.run_records import RunRecord, read_records
from transforms.reporting import DEFAULT_GALLERY, contract, document
from transforms.reporting.document import Frame
from transforms.reporting.graph import ReportJob, WriteReport
from transforms.reporting.measuring import Measures
from transforms.reporting.tiles import check_tiles, host_of

logger = logging.getLogger(__name__)

MOST_NIGHTS = 1_000
"""Runs that a page shows at most, the newest."""

ALARMS = "alarms"
"""Key of `RunRecord.comparison`."""


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
        records = read_records(archive.output)
    except (ArchiveError, IndicatorError, storage.StorageError) as error:
        raise ConfigurationError(str(error)) from error
    newest = records[-1] if records else None
    frame = Frame(
        created_at=datetime.now(timezone.utc),
        version=__version__,
        nights=tuple(nights_of(records[-MOST_NIGHTS:], archive)),
        settings=_settings(newest) if newest else None,
        tiles=tiles_of(request.tiles, request.attribution) if request.tiles else None,
    )
    return ReportJob(archive, Measures(archive.classes, indicators), request.gallery, frame)


def write_report(job: ReportJob, runner: Runner) -> str:
    """Write a report; return the path of its page. Call it while nobody else writes there.

    Raises what `Runner.run` raises, and:
        StorageError: rows cannot be read, or the report not be written.
    """
    runner.run(lambda pipeline: pipeline | WriteReport(job))
    return f"{job.archive.output}/{columns.REPORT}"


def try_report(request: ReportRequest, owner: str = "") -> str:
    """Write the report of a run that has ended, in this process; say in one line if that fails.

    Whatever goes wrong here, the results of the run stand. Where nothing does, the line is empty.

    Raises:
        LockLostError: `owner` has lost the lock of the folder, see `fencing.check`.
    """
    try:
        write_report(replace(prepare(request), owner=owner), LocalRunner({}))
    except LockLostError:
        raise
    except Exception as error:
        logger.debug("the report", exc_info=True)
        return f"Error: the report could not be written: {first_line(error)}"
    return ""


def report_on(record: RunRecord, signal: Signals | None, **settings: Any) -> str:
    """Write the report of a run that was not interrupted; one line if that fails, else empty.

    The results of the run stand in any case. Call it while the output folder is locked.

    Args:
        record: the run record.
        signal: what ended the work early, if anything.
        settings: those of `ReportRequest`.
    """
    if signal:
        return ""
    return try_report(ReportRequest(record.output, record.model, **settings), record.run_id)


def nights_of(records: Iterable[RunRecord], archive: Archive) -> Iterator[contract.Night]:
    """The runs in the form the page shows; a run whose record cannot be shown is skipped."""
    for record in records:
        try:
            yield _night(record, archive)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            logger.warning(
                "run %s: its record cannot be shown (%s)", record.run_id, first_line(error)
            )


def _night(record: RunRecord, archive: Archive) -> contract.Night:
    total = sum(record.pixels.values()) if record.model == archive.model else 0
    alarms = (record.comparison or {}).get(ALARMS, [])
    return contract.Night(
        run_id=record.run_id,
        started_at=record.started_at,
        seconds=record.seconds,
        images=record.images,
        images_per_second=record.images_per_second,
        shares=[
            round(record.pixels.get(name, 0) / total, contract.DIGITS)
            for name in archive.classes.names
        ]
        if total
        else None,
        alarms=[str(Alarm(**alarm)) for alarm in alarms],
        interrupted=record.interrupted,
    )


def _settings(record: RunRecord) -> contract.Settings:
    """What a run was asked for, without NaN, which the page's JSON has not."""
    return contract.Settings(
        run_id=record.run_id,
        options=document.plain(record.options),
        versions=document.plain(record.versions),
    )


def tiles_of(url: str, attribution: str | None) -> contract.Tiles:
    """The background of the map; raises ConfigurationError where the URL is none of tiles."""
    try:
        return contract.Tiles(url=check_tiles(url), attribution=attribution or host_of(url))
    except ValueError as error:
        raise ConfigurationError(f"--tiles: {error}") from error
