"""GeoJSON: a point per photo, for web maps and QGIS. See RFC 7946.

Photos without a position are left out.
"""

import pyarrow as pa

from transforms.exporting.format import Exported, Format
from transforms.exporting.json_lists import items, to_json, write_object
from transforms.exporting.parts import Part
from transforms.exporting.tables import derived_table, json_rows
from transforms.measures.positions import positioned
from transforms.output import columns

FILE = "photos.geojson"
FEATURES = "features"


class GeoJson(Format):
    """One FeatureCollection, `photos.geojson`."""

    needs_position = True

    def write(self, part: Part, schema: pa.Schema) -> Exported:
        """See `Format.write`."""
        table = derived_table(part.read(self.archive, schema), self.archive, self.indicators)
        placed = positioned(table)
        self.put_fragment(part, FEATURES, items(map(feature, json_rows(placed))))
        return Exported(len(placed), len(table) - len(placed))

    def finish(self, parts: int) -> None:
        """See `Format.finish`."""
        features = self.fragments(FEATURES, parts)
        with self.open(FILE) as file:
            write_object(file, {"type": "FeatureCollection"}, {FEATURES: features})
        self.remove_fragments()


def feature(row: dict) -> str:
    position = [row[columns.LONGITUDE], row[columns.LATITUDE]]
    geometry = {"type": "Point", "coordinates": position}
    return to_json({"type": "Feature", "geometry": geometry, "properties": row})
