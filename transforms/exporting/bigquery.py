"""BigQuery: Parquet files below `run_date=DAY/`, the day on which the run made the rows.

The layout is hive partitioning, the column names and types are those that BigQuery takes; see
https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet,
https://cloud.google.com/bigquery/docs/hive-partitioned-loads-gcs and
https://cloud.google.com/bigquery/docs/schemas#column_names.
"""

import re
from io import BytesIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.exporting.format import Exported, Format
from transforms.exporting.parts import Part
from transforms.exporting.tables import derived_table
from transforms.measures.deriving import distinct_names
from transforms.output import columns

RUN_DATE = "run_date"
"""The partition key; it is in the path only, not in the files."""

NO_DATE = "__HIVE_DEFAULT_PARTITION__"
"""Hive's partition for rows without a value: those whose run id contains no day."""

MAX_NAME = 300

_RESERVED = re.compile(
    r"(?i)_TABLE_|_FILE_|_PARTITION|_ROW_TIMESTAMP|__ROOT__|_COLIDENTIFIER|_CHANGE_SEQUENCE_NUMBER"
)
"""Prefixes that BigQuery reserves."""


class BigQuery(Format):
    """Files `run_date=YYYY-MM-DD/part-NUMBER.parquet` of one schema."""

    def write(self, part: Part, schema: pa.Schema) -> Exported:
        """See `Format.write`."""
        table = derived_table(part.read(self.archive, schema), self.archive, self.indicators)
        days = _run_dates(table)
        table = table.rename_columns(column_names(table.column_names))
        table = table.cast(pa.schema([_field(field) for field in table.schema]))
        for day in pc.unique(days).to_pylist():
            buffer = BytesIO()
            pq.write_table(table.filter(pc.equal(days, day)), buffer, compression="zstd")
            self.put(f"{RUN_DATE}={day}/{part.name}.parquet", buffer.getvalue())
        return Exported(len(table))


def column_names(names: list[str]) -> list[str]:
    """Valid BigQuery names: letters, digits and `_`, no leading digit, no reserved prefix.

    They differ in more than case.
    """
    cleaned = (re.sub(r"[^A-Za-z0-9_]", "_", name)[: MAX_NAME // 2] for name in names)
    safe = [
        f"x_{name}" if re.match(r"\d|$", name) or _RESERVED.match(name) else name
        for name in cleaned
    ]
    return distinct_names(safe, [RUN_DATE])


def _run_dates(table: pa.Table) -> pa.ChunkedArray:
    """The day in each run id: `20261123T213000Z-3f2a1b` gives `2026-11-23`."""
    parts = pc.extract_regex(table[columns.RUN_ID], r"^(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})T")
    parts = [pc.struct_field(parts, name) for name in "ymd"]
    return pc.fill_null(pc.binary_join_element_wise(*parts, "-"), NO_DATE)


def _field(field: pa.Field) -> pa.Field:
    if pa.types.is_timestamp(field.type):
        return pa.field(field.name, pa.timestamp("us", "UTC"))
    if pa.types.is_float16(field.type):  # Parquet's form of it is not among BigQuery's.
        return pa.field(field.name, pa.float32())
    return field.with_nullable(True)
