"""Exports in their parts: how rows are cut, and what each format makes of what is unusual."""

import io
import json
import math
from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from PIL import Image

from models.classes import ClassTable
from models.indicators import Indicators
from transforms import storage
from transforms.exporting import ExportError, places
from transforms.exporting.bigquery import column_names
from transforms.exporting.cityscapes import file_name
from transforms.exporting.coco import bounding_box, segment_id
from transforms.exporting.cvat import Cvat, label_map, voc_colors
from transforms.exporting.geoparquet import GeoParquet
from transforms.exporting.hexagons import Hexagons
from transforms.exporting.json_lists import copy_items, items, read_items, to_json, write_object
from transforms.exporting.masked import MaskedPhoto, class_colors, photos_of, read_mask
from transforms.exporting.parts import Layout, Part, Piece, Survey, common_schema, conform, survey
from transforms.exporting.tables import json_rows, points
from transforms.output.archives import Archive

SCHEMA = pa.schema([("image", pa.string())])


@pytest.fixture
def archive(output, photos) -> Archive:
    """The four photos of two files, as an archive."""
    return Archive(str(output), output.MODEL, output.CLASSES, (0, 1, 2), {})


def layout_of(archive: Archive) -> Layout:
    files = sorted(str(path) for path in Path(archive.output, "statistics").iterdir())
    return Layout.of([survey((file,), archive) for file in reversed(files)])


@pytest.mark.parametrize("rows_per_part", [1, 2, 3, 4, 100])
def test_parts_hold_every_row_once_and_number_them(archive, rows_per_part):
    parts = list(layout_of(archive).parts(rows_per_part))
    assert [part.number for part in parts] == list(range(math.ceil(4 / rows_per_part)))
    photos = [photo for part in parts for photo in photos_of(part, archive)]
    assert [photo.number for photo in photos] == [0, 1, 2, 3]
    assert [photo.image for photo in photos] == [f"lund/{name}.jpg" for name in "abcd"]
    assert all(len(photos_of(part, archive)) <= rows_per_part for part in parts)


def test_parts_run_over_files_and_within_them():
    layout = Layout((("a", 3), ("b", 1), ("c", 5)), SCHEMA)
    assert [part.pieces for part in layout.parts(4)] == [
        (Piece("a", 0, 3), Piece("b", 0, 1)),
        (Piece("c", 0, 4),),
        (Piece("c", 4, 5),),
    ]
    assert [part.first for part in layout.parts(4)] == [0, 4, 8]


def test_only_rows_of_the_model_are_counted_and_numbered(output, archive):
    output.commit("more", output.segment("x.jpg"), model="other@0123456789ab")
    layout = layout_of(archive)
    assert sum(count for _, count in layout.files) == 4 and len(layout.files) == 2


def test_an_archive_without_rows_has_no_parts():
    empty = Layout.of([Survey((), SCHEMA)])
    assert list(empty.parts(10)) == []


def test_files_of_different_columns_get_one_schema():
    schemas = [
        pa.schema([("run_id", pa.string()), ("size", pa.int64()), ("mixed", pa.int64())]),
        pa.schema([("image", pa.string()), ("size", pa.float64()), ("mixed", pa.string())]),
        pa.schema([("empty", pa.null()), ("seen", pa.bool_())]),
    ]
    schema = common_schema(schemas)
    assert schema.names[:2] == ["image", "run_id"]
    types = {field.name: field.type for field in schema}
    assert (types["size"], types["mixed"]) == (pa.float64(), pa.string())
    assert (types["empty"], types["seen"]) == (pa.string(), pa.bool_())
    table = conform(pa.table({"size": [1], "mixed": [2]}), schema)
    assert table.to_pylist() == [
        {"image": None, "run_id": None, "size": 1.0, "mixed": "2", "empty": None, "seen": None}
    ]


def test_masks_of_label_ids_are_read_as_class_ids(output):
    values = np.array([23, 21, 7], np.uint8)
    item = output.segment("a.jpg", 5, values=values)
    archive = Archive(str(output), output.MODEL, output.CLASSES, tuple(values.tolist()), {})
    photo = MaskedPhoto(0, "a.jpg", "/a.jpg", ".", item.width, item.height, item.planned.mask)
    assert np.array_equal(read_mask(archive, photo), output.made_mask(5))


def test_what_is_no_class_is_255(output, archive):
    mask = np.array([[0, 2, 255, 9]], np.uint8)
    path = "masks/x.png"
    output.write(path, output.encoded_mask(0))
    Image.fromarray(mask).save(output / path)
    read = read_mask(archive, MaskedPhoto(0, "x", "x", ".", 4, 1, path))
    assert read.tolist() == [[0, 2, 255, 255]]


def test_a_mask_of_another_size_is_named(output, archive, photos):
    photo = MaskedPhoto(0, "x", "x", ".", 5, 5, photos[0].planned.mask)
    with pytest.raises(ExportError, match=r"a.jpg.png: .*16x12, expected 5x5"):
        read_mask(archive, photo)


def test_no_class_has_the_colour_of_no_class(archive):
    classes = ClassTable.of([("A", (0, 0, 0)), ("B", (1, 1, 1)), ("C", (9, 9, 9))])
    archive = Archive(archive.output, "m", classes, (0, 1, 2), {})
    assert class_colors(archive) == [(2, 2, 2), (1, 1, 1), (9, 9, 9)]


def test_lists_of_json_are_joined_whatever_their_lengths():
    sources = [io.BytesIO(items(texts)) for texts in ([], ["1", '"a\\nb"'], [], ["{}"], [])]
    target = io.BytesIO()
    write_object(target, {"x": 1}, {"values": sources, "none": []})
    assert json.loads(target.getvalue()) == {"x": 1, "values": [1, "a\nb", {}], "none": []}
    copied = io.BytesIO()
    copy_items(copied, [io.BytesIO(items(["1", "2"])), io.BytesIO(items(["3"]))])
    assert list(read_items([io.BytesIO(copied.getvalue())])) == [1, 2, 3]


def test_points_are_well_known_binary():
    table = pa.table({"latitude": [55.7, None, 1.0], "longitude": [13.2, 1.0, None]})
    shapes = points(table)
    assert shapely.from_wkb(shapes[0].as_py()) == shapely.Point(13.2, 55.7)
    assert shapes.to_pylist()[1:] == [None, None]
    assert points(table.slice(1, 2)).null_count == 2


def test_json_has_no_numbers_that_are_not_finite():
    rows = json_rows(pa.table({"x": [1.5, math.nan, math.inf, None]}))
    assert [row["x"] for row in rows] == [1.5, None, None, None]


@pytest.mark.parametrize(
    ("array", "value"),
    [
        (pa.array([datetime(2024, 5, 17, 8, 9, 10)]), "2024-05-17T08:09:10"),
        (pa.array([date.max]), "9999-12-31"),
        (pa.array([time(8, 9, 10)]), "08:09:10"),
        (pa.array([timedelta(days=1, milliseconds=5)]), 86400.005),
        (pa.array([b"\xff\0"]), "/wA="),
        (pa.array([b"\xff\0"], pa.large_binary()), "/wA="),
        (pa.array([None], pa.duration("s")), None),
        (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_json_has_a_form_for_columns_of_every_type(array, value):
    (row,) = json_rows(pa.table({"x": array}))
    assert json.loads(to_json(row["x"])) == value


def test_panoramas_stand_among_flat_photos(output, archive):
    """Only files with panoramas have their columns; what is derived is of the sphere there."""
    for number, path in enumerate(sorted((output / "statistics").iterdir())):
        table = pq.read_table(path)
        table = table.drop_columns(["latitude", "longitude", "projection"])
        table = table.append_column("latitude", pa.array([55.7] * 2))
        table = table.append_column("longitude", pa.array([13.2] * 2))
        if number == 0:
            for name, value in (
                ("projection", "equirectangular"), ("solid_angle_sky", 3.0),
                ("solid_angle_tree_top", 1.0), ("solid_angle_road", 0.0), ("sky_view_factor", 0.8),
            ):  # fmt: skip
                table = table.append_column(name, pa.array([value, None]))
        pq.write_table(table, path)
    layout = layout_of(archive)
    indicators = Indicators.load(archive.classes)
    for form in (
        GeoParquet(archive, indicators, 9, "exports/geoparquet"),
        Hexagons(archive, indicators, 9, "exports/h3"),
    ):
        for part in layout.parts(3):
            form.write(part, layout.schema)
        form.finish(2)
    photos = pa.concat_tables(map(pq.read_table, sorted(output.glob("exports/geoparquet/*"))))
    assert photos["projection"].to_pylist() == ["equirectangular", None, None, None]
    assert photos["share_sky"][0].as_py() == 0.75
    flat = photos["pixels_sky"].to_numpy() / (photos["width"].to_numpy() * 12)
    assert photos["share_sky"].to_pylist()[1:] == pytest.approx(flat[1:].tolist())
    (cell,) = pq.read_table(output / "exports/h3/hexagons.parquet").to_pylist()
    assert (cell["images"], cell["sky_view_factor"]) == (4, 0.8)
    assert cell["share_sky"] == pytest.approx(np.mean([0.75, *flat[1:]]))


def test_names_of_columns_are_such_as_bigquery_takes():
    names = ["pixels_sky", "2nd look", "Größe", "_TABLE_x", "RUN_DATE", "a b", "a.b", "", "A_B"]
    assert column_names(names) == [
        "pixels_sky", "x_2nd_look", "Gr__e", "x__TABLE_x", "input_RUN_DATE", "a_b", "input_a_b",
        "x_", "input_input_A_B",
    ]  # fmt: skip
    (long,) = column_names(["n" * 1000])
    assert len(long) <= 300


def test_labels_of_cvat_have_four_fields():
    text = label_map([("background", (0, 0, 0)), (" #a:b\nc ", (1, 2, 3))])
    assert text.splitlines()[1:] == ["background:0,0,0::", "_a_b_c:1,2,3::"]


def test_instances_have_the_colours_of_pascal_voc():
    assert voc_colors(4) == [(128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
    assert voc_colors(9)[-1] == (192, 0, 0)
    assert len(set(voc_colors(254))) == 254


@pytest.mark.parametrize(
    ("image", "group", "expected"),
    [
        ("ulm_000000_000019_leftImg8bit.png", ".", "ulm/ulm_000000_000019_labelIds.png"),
        ("x/IMG_202001_120000.jpg", "x", "x/x_000001_000002_labelIds.png"),
        ("a.jpg", "../[ü]_b", "b/b_000001_000002_labelIds.png"),
        ("a.jpg", "old town", "old-town/old-town_000001_000002_labelIds.png"),
        ("a.jpg", ".", "photos/photos_000001_000002_labelIds.png"),
    ],
)
def test_names_are_such_as_cityscapes_has(image, group, expected):
    assert file_name(MaskedPhoto(1_000_002, image, "", group, 1, 1, "")) == expected


def test_segment_ids_are_red_green_blue():
    assert segment_id((1, 2, 3)) == 1 + 256 * 2 + 65536 * 3


def test_a_box_holds_all_pixels():
    shown = np.zeros((5, 7), bool)
    shown[1, 2] = shown[3, 6] = True
    assert bounding_box(shown) == [2, 1, 5, 3]


def test_a_name_that_is_given_twice_is_found_among_parts(archive):
    form = Cvat(archive, Indicators("1", ()), 9, "x")
    for number, photo in enumerate(["a/1.jpg", "a/2.jpg", "a/1.png"]):
        entry = [json.dumps([photo.rpartition(".")[0], photo])]
        form.put_fragment(Part(number, number, ()), "names", items(entry))
    with pytest.raises(ExportError, match="a/1.jpg and a/1.png would both be 'a/1': because"):
        form.check_names(3, "because")
    form.check_names(2, "because")


def test_an_export_takes_the_place_of_the_last_one_when_it_is_whole(tmp_path):
    output = str(tmp_path)
    storage.write(output, f"{places.final('x')}/old", b"")
    places.begin(output, "x")
    storage.write(output, f"{places.building(output, 'x')}/new", b"")
    assert [p.name for p in (tmp_path / "exports/x").iterdir()] == ["old"]
    places.publish(output, "x")
    assert [p.name for p in (tmp_path / "exports/x").iterdir()] == ["new"]


def test_an_export_that_is_not_whole_goes_without_a_trace(tmp_path):
    output = str(tmp_path)
    storage.write(output, f"{places.building(output, 'x')}/part", b"")
    places.abandon(output, "x")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
