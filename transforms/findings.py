"""Findings: what verification found wrong in an output folder; the next run repairs it.

They stand in `findings.parquet`. A finding names the very row (by its run) or file (by its version)
that is wrong, so it says nothing of what has been repaired since and need not be taken back.
"""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from transforms import columns, storage

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
    """Write `findings.parquet`, sorted; raises StorageError where that is impossible."""
    ordered = sorted(findings, key=lambda finding: (finding.kind, finding.path, finding.image))
    buffer = BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(f) for f in ordered], SCHEMA), buffer)
    storage.write(output, columns.FINDINGS, buffer.getvalue())


def read_findings(output: str) -> list[Finding]:
    """What the last verification found; nothing where there was none."""
    path = os.path.join(output, columns.FINDINGS)
    if not os.path.exists(path):
        return []
    return [Finding(**row) for row in pq.ParquetFile(path).read().to_pylist()]
