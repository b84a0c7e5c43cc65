"""Findings: what verification found wrong in an output folder; the next run repairs it.

They stand in `findings.parquet`. A finding names the very row (by its run) or file (by its version)
that is wrong, so it says nothing of what has been repaired since and need not be taken back.
"""

import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import BytesIO

import pyarrow as pa

from transforms import storage
from transforms.output import columns, parquet

logger = logging.getLogger(__name__)

MASK_MISSING = "mask missing"
MASK_DAMAGED = "mask damaged"
MASK_DIFFERS = "mask differs"
ROW_WRONG = "row wrong"
ROW_DOUBLED = "row doubled"
"""Of a row: its image is done anew and the row replaced."""

MASK_ORPHAN = "mask without row"
"""Of a file in a mask folder: it is removed."""

FILE_UNREADABLE = "file unreadable"
"""Of a Parquet file: it is set aside, and its images are done anew."""

OF_ROWS = frozenset({MASK_MISSING, MASK_DAMAGED, MASK_DIFFERS, ROW_WRONG, ROW_DOUBLED})

UNREADABLE = f"{storage.WORK_FOLDER}/unreadable"
"""Folder of the files that were set aside, under their paths."""

SCHEMA = pa.schema(
    [
        pa.field(columns.KIND, pa.string(), nullable=False),
        pa.field(columns.PATH, pa.string(), nullable=False),
        pa.field(columns.VERSION, pa.string(), nullable=False),
        pa.field(columns.IMAGE, pa.string(), nullable=False),
        pa.field(columns.MODEL, pa.string(), nullable=False),
        pa.field(columns.RUN_ID, pa.string(), nullable=False),
        pa.field(columns.MESSAGE, pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: one of the constants of this module.
        path: the file that is wrong, relative to the output folder.
        version: its version when it was looked at (`storage.FoundFile.version`); empty where it is
            missing.
        image, model, run_id: of the row that is wrong; empty where there is none.
        message: what was found and what was expected.
    """

    kind: str
    path: str
    version: str
    image: str
    model: str
    run_id: str
    message: str


def write_findings(output: str, findings: Iterable[Finding]) -> None:
    """Write `findings.parquet`, sorted; where there is nothing to say, there is no such file.

    Raises:
        StorageError: the file cannot be written.
    """
    ordered = sorted(findings, key=lambda finding: (finding.kind, finding.path, finding.image))
    if not ordered:
        path = os.path.join(output, columns.FINDINGS)
        if storage.exists(path):
            storage.remove(path)
        return
    table = pa.Table.from_pylist([asdict(f) for f in ordered], SCHEMA)
    parquet.write_table(output, columns.FINDINGS, table)


def read_findings(output: str) -> list[Finding]:
    """What the last verification found; nothing where there was none.

    Raises:
        StorageError: the file is damaged, or none of citymask's.
    """
    path = os.path.join(output, columns.FINDINGS)
    try:
        content = parquet.read_bytes(path)
    except storage.MissingError:
        return []
    try:
        with parquet.opened(path, BytesIO(content)) as file:
            return [Finding(**row) for row in file.read(SCHEMA.names).to_pylist()]
    except (parquet.DamagedError, TypeError) as error:
        reason = getattr(error, "reason", "other columns than expected")
        raise storage.StorageError(
            f"{path}: cannot be read ({reason}); remove it, or verify the folder again"
        ) from error


def repair_files(output: str) -> int:
    """Remove files that belong to no row, set aside those that cannot be read; return how many.

    A file that was written anew since it was found is left alone, so a repeated call does no harm.
    Call it while nobody else writes there.

    Raises:
        StorageError: the findings cannot be read, or a file not be removed or moved.
    """
    removed = set_aside = 0
    for finding in read_findings(output):
        path = os.path.join(output, finding.path)
        if not _is_below(finding.path) or storage.find(path).version != finding.version:
            continue
        if finding.kind == MASK_ORPHAN:
            storage.remove(path)
            removed += 1
        elif finding.kind == FILE_UNREADABLE:
            aside = os.path.join(output, UNREADABLE, finding.path)
            storage.move(path, aside)
            set_aside += 1
            logger.info("moved %s, which cannot be read, to %s", path, aside)
    if removed:
        logger.info("removed %d files from mask folders that belonged to no row", removed)
    return removed + set_aside


def _is_below(path: str) -> bool:
    """Whether a path stays below its folder; the findings' file may be anybody's."""
    return not os.path.isabs(path) and ".." not in path.split("/")
