"""Exporting: writes the results of an archive in the formats of other tools.

A module per format; `FORMATS` has them by name. `graph.ExportArchive` makes any number of them in
one pipeline. All formats process the same parts of the archive in parallel.

It may import measures, inputs, photos, output, flow and storage.
"""

from transforms.exporting.bigquery import BigQuery
from transforms.exporting.cityscapes import Cityscapes
from transforms.exporting.coco import CocoPanoptic, CocoRle
from transforms.exporting.cvat import Cvat
from transforms.exporting.fiftyone import FiftyOne
from transforms.exporting.format import Exported, ExportError, Format
from transforms.exporting.geojson import GeoJson
from transforms.exporting.geoparquet import GeoParquet
from transforms.exporting.graph import ExportArchive
from transforms.exporting.hexagons import Hexagons
from transforms.exporting.zensvi import ZenSvi

__all__ = ["FORMATS", "ExportArchive", "ExportError", "Exported", "Format"]

FORMATS: dict[str, type[Format]] = {
    "geoparquet": GeoParquet,
    "geojson": GeoJson,
    "h3": Hexagons,
    "zensvi": ZenSvi,
    "coco-panoptic": CocoPanoptic,
    "coco-rle": CocoRle,
    "cityscapes": Cityscapes,
    "cvat": Cvat,
    "fiftyone": FiftyOne,
    "bigquery": BigQuery,
}
"""All formats by name."""
