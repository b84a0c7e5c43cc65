"""GeoParquet: a point per photo with all its columns, for GeoPandas, QGIS and DuckDB.

See https://geoparquet.org/releases/v1.1.0. Photos without a position have no geometry.
"""

from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.exporting.format import Exported, Format
from transforms.exporting.parts import Part
from transforms.exporting.tables import (
    GEOMETRY,
    derived_table,
    geo_metadata,
    points,
)
from transforms.measures.positions import positioned


class GeoParquet(Format):
    """Files `part-NUMBER.parquet` of one schema, which make up one data set."""

    needs_position = True
    left_out = "of them without a position: their geometry is null"

    def write(self, part: Part, schema: pa.Schema) -> Exported:
        """See `Format.write`."""
        table = derived_table(part.read(self.archive, schema), self.archive, self.indicators)
        table = table.append_column(GEOMETRY, points(table)).replace_schema_metadata(geo_metadata())
        buffer = BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        self.put(f"{part.name}.parquet", buffer.getvalue())
        return Exported(len(table), len(table) - len(positioned(table)))
