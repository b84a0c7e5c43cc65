"""Findings: the problems that verification found in an output folder; the next run repairs them.

They are stored in `findings.parquet`. A finding identifies the wrong row (by its run) or file (by
its version), so it does not apply to anything repaired since and need not be withdrawn.
"""

import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import BytesIO

import pyarrow as pa

from transforms import storage
from transforms.output import columns, fencing, parquet

logger = logging.getLogger(__name__)

MASK_MISSING = "mask missing"
MASK_DAMAGED = "mask damaged"
MASK_DIFFERS = "mask differs"
ROW_WRONG = "row wrong"
ROW_DOUBLED = "row doubled"
"""Findings about a row: its image is segmented again and the row replaced."""

MASK_ORPHAN = "mask without row"
"""Finding about a file in a mask folder: the file is removed."""

FILE_UNREADABLE = "file unreadable"
"""Finding about a Parquet file: the file is set aside, and its images are segmented again."""

OF_ROWS = frozenset({MASK_MISSING, MASK_DAMAGED, MASK_DIFFERS, ROW_WRONG, ROW_DOUBLED})

UNREADABLE = f"{storage.WORK_FOLDER}/unreadable"
"""Folder of the files that were set aside; they keep their relative paths."""

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
    """One problem in an output folder.

    Attributes:
        kind: one of the constants of this module.
        path: the wrong file, relative to the output folder.
        version: its version when it was checked (`storage.FoundFile.version`); empty if it is
            missing.
        image, model, run_id: values of the wrong row; empty if there is none.
        message: what was found and what was expected.
    """

    kind: str
    path: str
    version: str
    image: str
    model: str
    run_id: str
    message: str


def write_findings(output: str, findings: Iterable[Finding], owner: str = "") -> None:
    """Write `findings.parquet`, sorted; without findings, remove the file.

    Raises:
        LockLostError: `owner` has lost the lock of the folder, see `fencing.check`.
        StorageError: the file cannot be written.
    """
    ordered = sorted(findings, key=lambda finding: (finding.kind, finding.path, finding.image))
    if not ordered:
        fencing.check(output, owner)
        if storage.exists(os.path.join(output, columns.FINDINGS)):
            storage.remove(output, columns.FINDINGS)
        return
    table = pa.Table.from_pylist([asdict(f) for f in ordered], SCHEMA)
    parquet.write_table(output, columns.FINDINGS, table, owner=owner)


def read_findings(output: str) -> list[Finding]:
    """The findings of the last verification; empty if there was none.

    Raises:
        StorageError: the file is damaged, or was not written by citymask.
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
    """Remove files without a row, set aside unreadable ones, and return how many they were.

    A file that was rewritten after the verification is left alone, so a repeated call is harmless.
    No one else may write to the output folder.

    Raises:
        StorageError: the findings cannot be read, or a file cannot be removed or moved.
    """
    removed = moved = 0
    for finding in read_findings(output):
        path = os.path.join(output, finding.path)
        if not _is_below(finding.path) or storage.find(path).version != finding.version:
            continue
        if finding.kind == MASK_ORPHAN:
            storage.remove(output, finding.path)
            removed += 1
        elif finding.kind == FILE_UNREADABLE:
            set_aside(output, finding.path)
            moved += 1
    if removed:
        logger.info("removed %d files without a row from mask folders", removed)
    return removed + moved


def set_aside(output: str, path: str) -> None:
    """Move an unreadable file, named by its path in the output folder, to `UNREADABLE`.

    Raises:
        StorageError: it cannot be moved.
    """
    storage.move(output, path, f"{UNREADABLE}/{path}")
    logger.warning("%s/%s cannot be read; it was moved to %s", output, path, UNREADABLE)


def _is_below(path: str) -> bool:
    """Whether a path stays below its folder; the content of the findings file is not trusted."""
    return not os.path.isabs(path) and ".." not in path.split("/")
