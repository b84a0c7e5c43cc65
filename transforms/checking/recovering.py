"""Recovering: finds what a run that died has left damaged, so that the next run repairs it.

A power cut may leave empty files, or zeros, in place of what was not flushed: with `--durable
never`, and on a disk that does not flush what it says. Of the files in the output folder only those
are read that were written since the run began, and the rows that say which masks there are.
"""

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial

from transforms import storage
from transforms.checking.row_checks import IDENTITY, REQUIRED, why_unreadable
from transforms.flow.concurrency import map_requests
from transforms.output import columns, findings, names, parquet
from transforms.output.findings import (
    FILE_UNREADABLE,
    MASK_DAMAGED,
    MASK_MISSING,
    MASK_ORPHAN,
    Finding,
)
from transforms.photos.mask_files import MaskError, check_chunks
from transforms.storage import FoundFile

logger = logging.getLogger(__name__)

SLACK = 2.0
"""Seconds by which the time of a file may lag behind the clock."""

_JPEG_END = b"\xff\xd9"


def note_damage(output: str, since: str, owner: str = "") -> None:
    """Add to the findings what is damaged of the files written since a time.

    A damaged file of findings is set aside. No one else may write to the output folder.

    Args:
        output: the output folder, a local one.
        since: ISO 8601 with UTC offset; what is no time stands for the beginning of all time.
        owner: who holds the lock of the folder, see `fencing.check`.

    Raises:
        LockLostError: it has lost the lock.
        StorageError: a file cannot be read, moved or written.
    """
    try:
        began = datetime.fromisoformat(since).timestamp() - SLACK
    except ValueError:
        began = -math.inf
    known = _known_findings(output)
    found = list(_unreadable_files(output, began))
    found += _damaged_masks(output, began, {finding.path for finding in found})
    if found:
        logger.warning("%s: a run died and left %d files damaged", output, len(found))
        findings.write_findings(output, {*known, *found}, owner)


def note_empty(output: str, owner: str = "") -> None:
    """Add to the findings the files of rows that are empty, whenever they were written.

    Nothing is lost with them, so no one needs to look at them first. Arguments and errors as of
    `note_damage`.
    """
    empty = [
        _about(FILE_UNREADABLE, output, file, "empty file (0 bytes)")
        for folder in columns.ROW_FOLDERS
        for file in storage.list_folder(f"{output}/{folder}", ".parquet")
        if file.size == 0
    ]
    if empty:
        logger.warning("%s: %d empty files of rows are set aside", output, len(empty))
        findings.write_findings(output, {*_known_findings(output), *empty}, owner)


def _known_findings(output: str) -> list[Finding]:
    try:
        return findings.read_findings(output)
    except storage.StorageError:
        findings.set_aside(output, columns.FINDINGS)
        return []


def _unreadable_files(output: str, began: float) -> Iterator[Finding]:
    """Files of rows, run records and model cards that were written since and cannot be read."""
    for folder in columns.ROW_FOLDERS:
        for file in _newer(storage.list_folder(f"{output}/{folder}", ".parquet"), began):
            if reason := why_unreadable(file.path, REQUIRED[folder]):
                yield _about(FILE_UNREADABLE, output, file, reason)
    for folder in (columns.RUNS, columns.MODELS):
        for file in _newer(storage.list_folder(f"{output}/{folder}", ".json"), began):
            try:
                json.loads(storage.read(file.path))
            except ValueError as error:
                yield _about(FILE_UNREADABLE, output, file, names.printable(str(error)))


def _damaged_masks(output: str, began: float, unreadable: set[str]) -> Iterator[Finding]:
    """Rows that were written since without a mask, and masks and what stands beside them that were
    written since and are damaged.
    """
    files = storage.list_folder(f"{output}/{columns.STATISTICS}", ".parquet")
    new = {file.path for file in _newer(files, began)}
    readable = [f.path for f in files if os.path.relpath(f.path, output) not in unreadable]
    for path, table in parquet.read_tables(readable, IDENTITY):
        check = partial(_check_row, output, began, path in new)
        for of_row in map_requests(check, table.to_pylist()):
            yield from of_row


def _check_row(output: str, began: float, is_new: bool, row: dict[str, str]) -> list[Finding]:
    """The damaged files of a row, which are to be removed, and the row, which is to be replaced."""
    mask = row[columns.MASK]
    beside = [names.beside(mask, name) for name in names.BESIDE]
    found = [storage.find(f"{output}/{path}") for path in (mask, *beside)]
    if is_new and found[0].size < 0:
        return [_about_row(MASK_MISSING, row, "there is no such file")]
    damaged = []
    for file in _newer((file for file in found if file.size >= 0), began):
        try:
            _check_picture(storage.read(file.path))
        except MaskError as error:
            damaged.append(_about(MASK_ORPHAN, output, file, names.printable(str(error))))
    if not damaged:
        return []
    return [*damaged, _about_row(MASK_DAMAGED, row, damaged[0].message)]


def _check_picture(data: bytes) -> None:
    """Raise MaskError where a mask, or a file beside one, is not whole."""
    if not data.endswith(_JPEG_END):
        check_chunks(data)


def _newer(files: Iterable[FoundFile], began: float) -> Iterator[FoundFile]:
    return (file for file in files if file.modified_ns / 1e9 >= began)


def _about(kind: str, output: str, file: FoundFile, message: str) -> Finding:
    path = os.path.relpath(file.path, output)
    return Finding(kind, path, file.version, "", "", "", message)


def _about_row(kind: str, row: dict[str, str], message: str) -> Finding:
    image, mask, model, run_id = (row[name] for name in IDENTITY)
    return Finding(kind, mask, "", image, model, run_id, message)
