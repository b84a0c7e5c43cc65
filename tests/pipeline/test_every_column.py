"""Metadata columns of every type, and names of any bytes, in every export and in the report."""

import json
import os
from datetime import date, datetime, time
from decimal import Decimal

import duckdb
import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pycocotools.coco import COCO

from models.classes import ClassTable
from tests.made_models import make_model
from transforms.exporting import FORMATS
from transforms.exporting.parts import common_schema, conform
from transforms.exporting.tables import json_rows

MOMENT = datetime(2024, 5, 17, 8, 9, 10)
KINDS = {
    "flag": pa.array([True, None]),
    **{
        f"int{bits}": pa.array([1 - 2 ** (bits - 1), None], f"int{bits}")
        for bits in (8, 16, 32, 64)
    },
    **{f"uint{bits}": pa.array([2**bits - 1, None], f"uint{bits}") for bits in (8, 16, 32, 64)},
    "half": pa.array([np.float16(1.5), None], pa.float16()),
    "float": pa.array([float("nan"), float("inf")], pa.float32()),
    "double": pa.array([float("-inf"), None], pa.float64()),
    **{
        f"time in {unit} {zone}": pa.array([MOMENT, None], pa.timestamp(unit, zone))
        for unit in ("s", "ms", "us", "ns")
        for zone in (None, "UTC", "Europe/Berlin")
    },
    "odd time": pa.array([1, None], pa.timestamp("ns")),
    "first year": pa.array([datetime(1, 1, 1), None], pa.timestamp("us")),
    "day": pa.array([date.max, None], pa.date32()),
    "day64": pa.array([MOMENT.date(), None], pa.date64()),
    "clock32": pa.array([time(8, 9), None], pa.time32("ms")),
    "clock64": pa.array([1, None], pa.time64("ns")),
    **{
        f"duration {unit}": pa.array([9, None], pa.duration(unit))
        for unit in ("s", "ms", "us", "ns")
    },
    "decimal": pa.array([Decimal("-99999999999999999999.99"), None]),
    "decimal256": pa.array([Decimal("1.50"), None], pa.decimal256(70, 2)),
    "bytes": pa.array([b"\xff\x00", None]),
    "large bytes": pa.array([b"\xff", None], pa.large_binary()),
    "fixed bytes": pa.array([b"\xff\x00", None], pa.binary(2)),
    "text": pa.array(["=1+1 \x1b[31m <b>&", None]),
    "large text": pa.array(["x", None], pa.large_string()),
    "list": pa.array([[1, None], None]),
    "struct": pa.array([{"a": 1.5, "b": b"\xff"}, None]),
    "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
    "dictionary": pa.array(["x", None]).dictionary_encode(),
    "nothing": pa.nulls(2),
    "geometry": pa.array(["not a shape", None]),
    "": pa.array(["no name", None]),
}
NAMES = [b"stra\xdfe.jpg", b"two\nlines.jpg", b"a\xff/50%41 #?.jpg", "\u00e9.jpg".encode()]


@pytest.fixture(scope="module")
def city(citymask, make_photo, tmp_path_factory, output_at):
    """The output of two runs: over photos with every kind of column, and with mixed ones."""
    folder = tmp_path_factory.mktemp("city")
    table = ClassTable.of([("Sky", (0, 0, 255)), ("Road", (1, 2, 3)), ("Car", (9, 9, 9))])
    model = make_model(folder / "model", classes=table).path
    shifted = list(KINDS.values())[1:] + list(KINDS.values())[:1]
    for number, columns in enumerate((KINDS.values(), shifted)):
        uris = [make_photo(folder / f"{number}-{n}.jpg", seed=n).name for n in range(2)]
        places = {"uri": uris, "latitude": [48.5, 48.6], "longitude": [9.5, 9.6]}
        arrays = [*map(pa.array, places.values()), *columns]
        manifest = folder / f"{number}.parquet"
        pq.write_table(pa.table(arrays, [*places, *KINDS]), manifest)
        result = citymask("run", manifest, "-o", folder / "out", "--model", model)
        assert result.exit_code == 0, result.output
    return output_at(folder / "out")


def test_every_format_is_opened_by_its_reader(city, citymask):
    assert len(city.rows) == 4
    options = [word for name in FORMATS for word in ("--format", name)]
    result = citymask("export", city.path, *options)
    assert result.exit_code == 0, result.output
    exports = city.path / "exports"
    for files in (exports / "geoparquet/*.parquet", exports / "bigquery/*/*.parquet"):
        relation = duckdb.sql(f"SELECT * FROM read_parquet('{files}')")
        assert len(relation.fetchall()) == 4
        assert len(relation.columns) > len(KINDS)
    shapes = geopandas.read_parquet(exports / "geoparquet")
    assert list(shapes.geometry.x) == [9.5, 9.6] * 2
    features = json.loads((exports / "geojson" / "photos.geojson").read_text())["features"]
    assert [len(feature["properties"]) > len(KINDS) for feature in features] == [True] * 4
    assert len(geopandas.read_file(exports / "geojson" / "photos.geojson")) == 4
    assert len(pd.read_csv(exports / "zensvi" / "wide" / "pixel_ratios.csv")) == 4
    assert len(COCO(exports / "coco-rle" / "annotations.json").imgs) == 4
    json.loads((exports / "coco-panoptic" / "panoptic.json").read_text())
    assert len((exports / "cvat/ImageSets/Segmentation/default.txt").read_text().split()) == 4
    assert len(pd.read_csv(exports / "cityscapes" / "names.csv")) == 4
    assert len(json.loads((exports / "fiftyone" / "data.json").read_text())) == 4


@pytest.mark.parametrize("command", ["report", "compact", "verify", "indicators"])
def test_the_other_commands_take_every_column(city, citymask, command):
    result = citymask(command, city.path)
    assert result.exit_code == 0, result.output
    assert len(city.rows) == 4


ARRAYS = [*KINDS.values(), pa.array([2**62 + 1]), pa.array([1.5])]


@pytest.mark.parametrize("first", ARRAYS, ids=lambda array: str(array.type))
def test_two_columns_of_one_name_have_a_common_type(first):
    for second in ARRAYS:
        tables = [pa.table({"x": array}) for array in (first, second)]
        schema = common_schema([table.schema for table in tables])
        for table in tables:
            rows = list(json_rows(conform(table, schema)))
            assert [row["x"] is None for row in rows] >= [value is None for value in table["x"]]
            json.dumps(rows, allow_nan=False)


def test_ids_keep_all_their_digits():
    tables = [pa.table({"x": pa.array([2**62 + 1], kind)}) for kind in ("int64", "uint64")]
    tables.append(pa.table({"x": pa.array([7], "int8")}))
    for few in (tables, tables[::2], tables[1:]):
        schema = common_schema([table.schema for table in few])
        assert [int(conform(t, schema)["x"][0].as_py()) for t in few] == [
            t["x"][0].as_py() for t in few
        ]


def test_names_of_any_bytes_go_all_the_way(run, output, make_photo, tmp_path, citymask):
    folder = os.fsencode(tmp_path / "photos")
    photo = make_photo(tmp_path / "a.jpg").read_bytes()
    for name in NAMES:
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(photo)
    run(inputs=[tmp_path / "photos"])
    assert len(output.rows) == len(NAMES)
    for form in ("zensvi", "coco-panoptic", "coco-rle", "cvat", "fiftyone", "bigquery"):
        result = citymask("export", output.path, "--format", form)
        assert result.exit_code == 0 and f"{len(NAMES)} photos" in result.stdout, result.output
    linked = json.loads((output.path / "exports/fiftyone/data.json").read_text())
    assert {os.fsencode(path) for path in linked.values()} == {
        os.path.join(folder, name) for name in NAMES
    }
    assert citymask("report", output.path).exit_code == 0
    assert len(list((output.path / "report/photos").glob("*[0-9].jpg"))) == len(NAMES)
    run(inputs=[tmp_path / "a.jpg"])
    assert output.runs[-1]["images"]["removed"] == 0
    os.unlink(os.path.join(folder, NAMES[0]))
    run(inputs=[tmp_path / "photos"])
    assert output.runs[-1]["images"]["removed"] == 1
