"""Hexagons: means of shares and indicators per H3 cell, for maps. See https://h3geo.org."""

from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.exporting.format import Exported, Format
from transforms.exporting.json_lists import items, to_json, write_object
from transforms.exporting.parts import Part
from transforms.exporting.tables import derived_table, json_rows
from transforms.measures import aggregating
from transforms.measures.aggregating import add_sums, means, measures, sums_per_key
from transforms.measures.hexagons import cell_keys, outline
from transforms.measures.positions import positioned
from transforms.output import columns

CELL = "cell"
PARQUET_FILE = "hexagons.parquet"
GEOJSON_FILE = "hexagons.geojson"
SUMS = "sums"
FEATURES = "features"

CELLS = 10_000
"""Cells written at a time."""


class Hexagons(Format):
    """A row per cell: `cell`, `images` and means, in `hexagons.parquet` and `hexagons.geojson`.

    Where the archive has panoramas, the sky view factor is among the means.
    """

    needs_position = True

    def write(self, part: Part, schema: pa.Schema) -> Exported:
        """See `Format.write`."""
        table = derived_table(part.read(self.archive, schema), self.archive, self.indicators)
        placed = positioned(table)
        wanted = measures(self.archive.classes, self.indicators)
        if columns.SKY_VIEW_FACTOR in schema.names:
            wanted.append(columns.SKY_VIEW_FACTOR)
        sums = sums_per_key(placed, cell_keys(placed, self.resolution), wanted)
        self.put_fragment(part, SUMS, _parquet(sums))
        return Exported(len(placed), len(table) - len(placed))

    def finish(self, parts: int) -> None:
        """See `Format.finish`. The sums of all cells are held in memory, not the photos."""
        total = add_sums(map(pq.read_table, self.fragments(SUMS, parts)))
        table = hexagon_table(means(total), self.indicators.version)
        self.put(PARQUET_FILE, _parquet(table))
        slices = (table.slice(start, CELLS) for start in range(0, len(table), CELLS))
        features = (BytesIO(items(map(_feature, json_rows(cells)))) for cells in slices)
        with self.open(GEOJSON_FILE) as file:
            write_object(file, {"type": "FeatureCollection"}, {FEATURES: features})
        self.remove_fragments()


def hexagon_table(averages: pa.Table, version: str) -> pa.Table:
    """Means per cell, with the cell under its own name and the version of the indicators."""
    names = [CELL if name == aggregating.KEY else name for name in averages.column_names]
    averages = averages.rename_columns(names)
    return averages.append_column(columns.INDICATORS_VERSION, pa.repeat(version, len(averages)))


def _parquet(table: pa.Table) -> bytes:
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _feature(row: dict) -> str:
    geometry = outline(row[CELL])
    return to_json({"type": "Feature", "geometry": geometry, "properties": row})
