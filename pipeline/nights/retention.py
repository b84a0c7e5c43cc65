"""Retention: run records and failure rows that nobody needs any more are removed.

The failure rows of an image are what its count of attempts rests on, and that keeps a bad photo in
quarantine. So age alone removes none of them. An old row goes when its image has been done in the
same run or later, or when another row of the same version has a higher count. What stays is one row
for each version that still fails, however old it is.
"""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.nights.config import Retention
from transforms import storage
from transforms.output import columns, parquet
from transforms.output.run_records import record_files

RUN_ID_TIME = "%Y%m%dT%H%M%SZ"
"""How a run id begins."""

NEVER = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class Removed:
    """How many run records and failure rows are gone."""

    runs: int
    failures: int


def remove_old(output: str, retention: Retention, now: datetime) -> Removed:
    """Remove what a configuration does not want kept; call it while nobody else writes there.

    Args:
        output: the output folder.
        retention: for how many days what is kept.
        now: the time, with its zone.

    Raises:
        StorageError: a file cannot be written or removed.
    """
    return Removed(
        runs=remove_old_records(output, _days_before(now, retention.runs)),
        failures=remove_old_failures(output, _days_before(now, retention.failures)),
    )


def remove_old_records(output: str, before: datetime | None) -> int:
    """Remove the records of runs that started before a time; return how many.

    The newest record always stays, and so does what is no run record. None removes nothing.

    Raises:
        StorageError: a file cannot be removed.
    """
    if before is None:
        return 0
    began = [(record.began, path) for path, record in record_files(output)]
    known = sorted((time, path) for time, path in began if time)
    old = [path for time, path in known[:-1] if time < before]
    for path in old:
        storage.remove(output, os.path.relpath(path, output))
    return len(old)


def remove_old_failures(output: str, before: datetime | None) -> int:
    """Remove failure rows of runs before a time that no count rests on; return how many.

    None removes nothing, and a row whose run id tells no time stays.

    Raises:
        StorageError: a file cannot be written or removed.
    """
    if before is None:
        return 0
    failures = {file: _failures(file) for file in parquet.files_in(output, columns.FAILURES)}
    attempts: dict[tuple[str, str], int] = {}
    for failure in chain.from_iterable(failures.values()):
        attempts[failure.key] = max(attempts.get(failure.key, 0), failure.attempts)
    old = {
        failure.image
        for failure in chain.from_iterable(failures.values())
        if failure.time and failure.time < before
    }
    done = _last_done(output, old) if old else {}
    removed = 0
    for file, of_file in failures.items():
        kept = [
            failure.time is None
            or failure.time >= before
            or not (
                failure.attempts < attempts[failure.key]
                or done.get(failure.image, NEVER) >= failure.time
            )
            for failure in of_file
        ]
        if not all(kept):
            parquet.replace_rows(output, file, parquet.read_table(file).filter(pa.array(kept)))
        removed += kept.count(False)
    return removed


@dataclass(frozen=True)
class _Failure:
    image: str
    version: str
    attempts: int
    time: datetime | None

    @property
    def key(self) -> tuple[str, str]:
        return self.image, self.version


def _failures(file: str) -> list[_Failure]:
    """The rows of a failures file, in their order."""
    wanted = [columns.IMAGE, columns.VERSION, columns.ATTEMPTS, columns.RUN_ID]
    table = parquet.read_table(file, wanted)
    values = (table[name].to_pylist() for name in wanted)
    return [
        _Failure(image, version, attempts, _run_time(run_id))
        for image, version, attempts, run_id in zip(*values, strict=True)
    ]


def _last_done(output: str, images: set[str]) -> dict[str, datetime]:
    """When the newest run with a row of an image began, of those images that have one."""
    wanted = pa.array(sorted(images))
    done: dict[str, datetime] = {}
    files = parquet.files_in(output, columns.STATISTICS)
    for _, table in parquet.read_tables(files, [columns.IMAGE, columns.RUN_ID]):
        table = table.filter(pc.is_in(table[columns.IMAGE], wanted))
        for image, run_id in zip(*(column.to_pylist() for column in table.columns), strict=True):
            done[image] = max(done.get(image, NEVER), _run_time(run_id) or NEVER)
    return done


def _days_before(now: datetime, days: int | None) -> datetime | None:
    """None for ever, or for longer than there have been calendars."""
    try:
        return None if days is None else now - timedelta(days=days)
    except OverflowError:
        return None


def _run_time(run_id: str) -> datetime | None:
    """When a run began, from its id; None where the id is one that a program chose itself."""
    try:
        began = datetime.strptime(run_id.partition("-")[0], RUN_ID_TIME)
    except ValueError:
        return None
    return began.replace(tzinfo=timezone.utc)
