"""`citymask export`: what it writes, opened by the tools that it is for."""

import copy
import csv
import io
import json
import shutil
from contextlib import redirect_stdout
from datetime import date
from pathlib import Path

import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as cityscapes  # noqa: N813
import duckdb
import geopandas
import h3
import numpy as np
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools.coco import COCO
from shapely.geometry import Point

from models.classes import ClassTable, SegmentationClass
from models.packages import load_package, write_package
from tests.gcs_server import GcsServer
from transforms.exporting import FORMATS
from transforms.output.locking import OutputLock

CLASSES = ("Sky", "Tree top", "Road")
LABEL_IDS = (23, 21, 7)
PHOTOS = {
    "lund/01.jpg": (55.7059, 13.1932),
    "lund/50%.png": (55.7060, 13.1933),
    "=HYPERLINK(1).jpg": (None, None),
    "a/ulm_000000_000019_leftImg8bit.png": (-33.9, 151.2),
    'trier/q"uo,te ü.jpg': (49.75, 6.64),
}
NAMES = {
    "lund/01.jpg", "lund/50%25.png", "=HYPERLINK(1).jpg", "a/ulm_000000_000019_leftImg8bit.png",
    'trier/q"uo,te ü.jpg',
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory):
    """The tiny model, with label ids of its own and a class that is black."""
    tiny = load_package(tiny_model)
    classes = [
        SegmentationClass(name, color, label_id)
        for name, color, label_id in zip(
            CLASSES, [(0, 0, 255), (0, 128, 0), (0, 0, 0)], LABEL_IDS, strict=True
        )
    ]
    folder = tmp_path_factory.mktemp("models") / "labelled"
    write_package(
        folder,
        tiny.build_network(),
        name="labelled",
        architecture=tiny.architecture,
        width=tiny.width,
        input_height=tiny.input_height,
        input_width=tiny.input_width,
        mean=tiny.mean,
        std=tiny.std,
        classes=ClassTable(tuple(classes)),
        training={},
        metrics={},
    )
    return folder


@pytest.fixture(scope="module")
def done(citymask, make_photo, model, tmp_path_factory) -> Path:
    """The output folder of a run with label ids, and all exports of it."""
    folder = tmp_path_factory.mktemp("export")
    lines = [("uri", "latitude", "longitude", "captured_at", "heading", "geometry", "2nd look")]
    for number, (name, position) in enumerate(PHOTOS.items()):
        make_photo(folder / "photos" / name, 56, 40 + number, seed=number)
        lines.append((name, *position, f"2026-05-01T10:00:0{number}Z", number, "mine", "x"))
    with open(folder / "photos/list.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    run = citymask(
        "run", folder / "photos/list.csv", "--output", folder / "out", "--model", model,
        "--unit-size", 2, "--label-ids",
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    exported = export(citymask, folder / "out", *FORMATS)
    assert exported.exit_code == 0, exported.output
    return folder / "out"


@pytest.fixture
def out(done, tmp_path) -> Path:
    """The output folder, to be changed."""
    return shutil.copytree(done, tmp_path / "out")


def export(citymask, out, *names, options=()):
    return citymask("export", out, *(f"--format={name}" for name in names), *options)


def refusal(result) -> str:
    assert result.exit_code == 2, result.output
    (line,) = result.output.splitlines()
    return line


@pytest.fixture(scope="module")
def rows(done) -> pd.DataFrame:
    """The statistics, by image."""
    frames = [pd.read_parquet(file) for file in sorted((done / "statistics").glob("*.parquet"))]
    return pd.concat(frames).set_index("image", drop=False)


def class_ids(done: Path, row) -> np.ndarray:
    """The mask of a row, as positions of the classes."""
    with Image.open(done / row["mask"]) as image:
        values = np.asarray(image)
    return np.argmax(values[..., None] == LABEL_IDS, axis=-1)


def pixels(row) -> dict[str, int]:
    """The pixels of each class that a row shows."""
    names = ("pixels_sky", "pixels_tree_top", "pixels_road")
    counts = zip(CLASSES, (int(row[name]) for name in names), strict=True)
    return {name: count for name, count in counts if count}


def test_geopandas_opens_geoparquet_with_all_columns(done, rows):
    frame = geopandas.read_parquet(done / "exports/geoparquet").set_index("image")
    assert set(frame.index) == NAMES
    assert frame.crs.to_epsg() == 4326
    assert frame.geometry["lund/01.jpg"] == Point(13.1932, 55.7059)
    assert frame.geometry["=HYPERLINK(1).jpg"] is None
    ordered = rows.loc[frame.index]
    for column in ("width", "heading", "captured_at", "group", "pixels_sky", "run_id"):
        assert list(frame[column]) == list(ordered[column])
    shares = ordered["pixels_sky"] / (ordered["width"] * ordered["height"])
    assert np.allclose(frame["share_sky"], shares)
    assert np.allclose(frame["sky_view"], shares)
    assert set(frame["indicators_version"]) == {"1"}
    assert set(frame["input_geometry"]) == {"mine"}


def test_geoparquet_has_the_metadata_of_its_specification(done):
    (file,) = (done / "exports/geoparquet").iterdir()
    document = json.loads(pq.read_schema(file).metadata[b"geo"])
    assert (document["version"], document["primary_column"]) == ("1.1.0", "geometry")
    column = document["columns"]["geometry"]
    assert (column["encoding"], column["geometry_types"]) == ("WKB", ["Point"])
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 4326}


def test_geopandas_opens_geojson_and_photos_without_a_position_are_left_out(done, rows):
    file = done / "exports/geojson/photos.geojson"
    frame = geopandas.read_file(file).set_index("image")
    assert set(frame.index) == NAMES - {"=HYPERLINK(1).jpg"}
    assert frame.crs.to_epsg() == 4326
    assert frame.geometry["lund/01.jpg"] == Point(13.1932, 55.7059)
    assert list(frame["pixels_road"]) == list(rows.loc[frame.index, "pixels_road"])
    assert frame["captured_at"]["lund/01.jpg"] == pd.Timestamp("2026-05-01T10:00:00")
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["type"] == "FeatureCollection" and "crs" not in document


def test_what_has_no_place_is_counted_in_a_line(citymask, out):
    printed = export(citymask, out, "geojson", "geoparquet", "zensvi").output.splitlines()
    assert printed == [
        f"{out}/exports/geojson: 4 photos; 1 left out: they have no position",
        f"{out}/exports/geoparquet: 5 photos; 1 of them without a position: their geometry is null",
        f"{out}/exports/zensvi: 5 photos",
    ]


def test_hexagons_hold_the_means_of_their_photos(done, rows):
    frame = pd.read_parquet(done / "exports/h3/hexagons.parquet").set_index("cell")
    lund = h3.latlng_to_cell(55.7059, 13.1932, 9)
    assert frame["images"].to_dict()[lund] == 2 and frame["images"].sum() == 4
    shares = rows["pixels_road"] / (rows["width"] * rows["height"])
    assert frame.loc[lund, "road_share"] == pytest.approx(
        shares[["lund/01.jpg", "lund/50%25.png"]].mean()
    )
    shapes = geopandas.read_file(done / "exports/h3/hexagons.geojson").set_index("cell")
    assert set(shapes.index) == set(frame.index)
    assert shapes.geometry[lund].contains(Point(13.1932, 55.7059))
    assert shapes["share_sky"][lund] == pytest.approx(frame["share_sky"][lund])


def test_the_resolution_of_hexagons_can_be_chosen(citymask, out):
    assert export(citymask, out, "h3", options=["--resolution", 3]).exit_code == 0
    cells = pd.read_parquet(out / "exports/h3/hexagons.parquet")["cell"]
    assert {h3.get_resolution(cell) for cell in cells} == {3}


def test_zensvi_scripts_find_its_columns(done, rows):
    long = pd.read_csv(done / "exports/zensvi/pixel_ratios.csv", index_col=0)
    assert list(long.columns) == ["filename_key", "label_name", "pixel_ratios"]
    assert list(long.index) == list(range(len(long)))
    wide = pd.read_csv(done / "exports/zensvi/wide/pixel_ratios.csv", index_col="filename_key")
    assert list(wide.columns) == list(CLASSES)
    row = rows.loc['trier/q"uo,te ü.jpg']
    ratios = {name: n / (row["width"] * row["height"]) for name, n in pixels(row).items()}
    assert wide.loc['trier/q"uo,te ü'].to_dict() == pytest.approx(
        dict.fromkeys(CLASSES, 0.0) | ratios
    )
    of_photo = long[long["filename_key"] == 'trier/q"uo,te ü'].set_index("label_name")
    assert of_photo["pixel_ratios"].to_dict() == pytest.approx(ratios)
    pivoted = long.pivot(index="filename_key", columns="label_name", values="pixel_ratios")
    assert np.allclose(pivoted.fillna(0)[list(wide)].sort_index(), wide.sort_index())


def test_no_cell_of_csv_is_a_formula(done):
    for file in done.glob("exports/**/*.csv"):
        with open(file, newline="", encoding="utf-8") as lines:
            cells = [cell for line in csv.reader(lines) for cell in line]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
        assert any(cell.startswith("'=HYPERLINK") for cell in cells)


def test_coco_panoptic_holds_each_class_as_a_segment(done, rows):
    """By the format's definition; `make test-exports` compares it with panopticapi."""
    folder = done / "exports/coco-panoptic"
    document = json.loads((folder / "panoptic.json").read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in document["categories"]}
    images = {image["id"]: image for image in document["images"]}
    assert {image["file_name"] for image in images.values()} == NAMES
    for annotation in document["annotations"]:
        image = images[annotation["image_id"]]
        row = rows.loc[image["file_name"]]
        assert (image["width"], image["height"]) == (row["width"], row["height"])
        segments = annotation["segments_info"]
        assert {names[s["category_id"]]: s["area"] for s in segments} == pixels(row)
        png = np.asarray(Image.open(folder / "panoptic" / annotation["file_name"]), np.uint32)
        ids = png @ np.array([1, 256, 65536], np.uint32)
        expected = class_ids(done, row)
        for segment in segments:
            here = np.argwhere(ids == segment["id"])
            (top, left), (bottom, right) = here.min(axis=0), here.max(axis=0)
            assert segment["bbox"] == [left, top, right - left + 1, bottom - top + 1]
            assert ((ids == segment["id"]) == (expected == segment["category_id"] - 1)).all()


def test_pycocotools_reads_coco_rle_and_areas_are_pixel_counts(done, rows):
    with redirect_stdout(io.StringIO()):
        coco = COCO(str(done / "exports/coco-rle/annotations.json"))
    assert {image["file_name"] for image in coco.imgs.values()} == NAMES
    for image_id, image in coco.imgs.items():
        row = rows.loc[image["file_name"]]
        annotations = coco.loadAnns(coco.getAnnIds(image_id))
        areas = {coco.cats[a["category_id"]]["name"]: a["area"] for a in annotations}
        assert areas == pixels(row)
        for annotation in annotations:
            mask = coco.annToMask(annotation)
            assert mask.sum() == annotation["area"]
            assert (mask == (class_ids(done, row) == annotation["category_id"] - 1)).all()


def test_cityscapesscripts_evaluates_cityscapes(done, rows, tmp_path):
    folder = done / "exports/cityscapes"
    with open(folder / "names.csv", newline="", encoding="utf-8") as lines:
        images = {line["image"].removeprefix("'"): line["file"] for line in csv.DictReader(lines)}
    assert images.keys() == NAMES
    core = "ulm_000000_000019"
    assert images[f"a/{core}_leftImg8bit.png"] == f"ulm/{core}_labelIds.png"
    truth = []
    for image, file in images.items():
        ids = np.array([23, 0, 7], np.uint8)[class_ids(done, rows.loc[image])]
        path = tmp_path / Path(file).name.replace("_labelIds", "_gtFine_labelIds")
        Image.fromarray(ids).save(path)
        truth.append(str(path))
    arguments = copy.deepcopy(cityscapes.args)
    arguments.predictionPath, arguments.quiet = str(folder), True
    arguments.JSONOutput = arguments.evalInstLevelScore = False
    with redirect_stdout(io.StringIO()):
        predictions = [cityscapes.getPrediction(arguments, file) for file in truth]
        scores = cityscapes.evaluateImgLists(predictions, truth, arguments)["classScores"]
    for name in ("road", "sky"):
        shown = rows[f"pixels_{name}"].sum() > 0
        assert scores[name] == pytest.approx(1) if shown else np.isnan(scores[name])
    assert np.isnan(scores["building"])


def test_classes_that_cityscapes_lacks_are_named(citymask, out):
    printed = export(citymask, out, "cityscapes").output.splitlines()
    assert printed[0] == "Note: Cityscapes has no class Tree top: their pixels are label 0"


def test_cvat_gets_masks_in_the_colours_of_its_label_map(done, rows):
    """By the grammar of the format; `make test-exports` imports it with Datumaro."""
    folder = done / "exports/cvat"
    lines = (folder / "labelmap.txt").read_text(encoding="utf-8").splitlines()
    labels = dict(line.split(":")[:2] for line in lines if not line.startswith("#"))
    assert list(labels) == ["background", *CLASSES]
    assert labels["background"] == "0,0,0" and len(set(labels.values())) == 4
    listed = (folder / "ImageSets/Segmentation/default.txt").read_text(encoding="utf-8")
    by_stem = {image.rpartition(".")[0]: image for image in NAMES}
    assert sorted(listed.splitlines()) == sorted(by_stem)
    for stem in listed.splitlines():
        row = rows.loc[by_stem[stem]]
        colors = np.array([np.fromstring(labels[name], int, sep=",") for name in CLASSES])
        for kind in ("SegmentationClass", "SegmentationObject"):
            image = Image.open(folder / kind / f"{stem}.png")
            assert image.mode == "RGB"
            found = np.asarray(image)
            if kind == "SegmentationClass":
                assert (found == colors[class_ids(done, row)]).all()
            assert len(np.unique(found.reshape(-1, 3), axis=0)) == len(pixels(row))


def test_two_photos_of_one_name_cannot_go_to_cvat(citymask, model, make_photo, tmp_path):
    for number, name in enumerate(("a.jpg", "a.png")):
        make_photo(tmp_path / "photos/x" / name, seed=number)
    out = tmp_path / "out"
    citymask("run", tmp_path / "photos", "--output", out, "--model", model)
    line = refusal(export(citymask, out, "cvat"))
    assert "x/a.jpg" in line and "x/a.png" in line and "rename" in line
    assert not (out / "exports").exists()
    assert export(citymask, out, "fiftyone").exit_code == 0


def test_fiftyone_finds_photos_where_they_are_and_a_mask_for_each(done, rows):
    """By the importer's source; `make test-exports` imports it with FiftyOne."""
    folder = done / "exports/fiftyone"
    photos = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    labels = {str(p.relative_to(folder / "labels")) for p in folder.glob("labels/**/*.png")}
    assert photos.keys() == labels
    assert sorted(photos.values()) == sorted(rows["uri"])
    targets = json.loads((folder / "mask_targets.json").read_text(encoding="utf-8"))
    assert targets == {"1": "Sky", "2": "Tree top", "3": "Road"}
    by_uri = rows.set_index("uri", drop=False)
    for name, uri in photos.items():
        image = Image.open(folder / "labels" / name)
        assert image.mode == "L"
        assert (np.asarray(image) == class_ids(done, by_uri.loc[uri]) + 1).all()


def test_photos_that_are_gone_or_in_shards_are_left_out_for_fiftyone(citymask, out):
    for file in (out / "statistics").glob("*.parquet"):
        frame = pd.read_parquet(file)
        frame["uri"] = frame["uri"].str.replace("lund/01.jpg", "shard.tar#01.jpg")
        frame.to_parquet(file)
    printed = export(citymask, out, "fiftyone").output
    assert printed.endswith("4 photos; 1 left out: there is no local file of them alone\n")


def test_bigquery_files_follow_its_rules_and_hive_readers_find_the_day(done, rows):
    folder = done / "exports/bigquery"
    (partition,) = folder.iterdir()
    days = {date.fromisoformat(f"{r[:4]}-{r[4:6]}-{r[6:8]}") for r in rows["run_id"]}
    assert [partition.name] == [f"run_date={day}" for day in days]
    for file in partition.iterdir():
        schema = pq.read_schema(file)
        assert "run_date" not in schema.names
        assert len({name.lower() for name in schema.names}) == len(schema.names)
        assert all(name.isidentifier() and name.isascii() for name in schema.names)
        assert {str(field.type) for field in schema} <= {
            "string", "int64", "double", "timestamp[us, tz=UTC]"
        }  # fmt: skip
        assert str(schema.field("captured_at").type) == "timestamp[us, tz=UTC]"
    table = pyarrow.dataset.dataset(folder, partitioning="hive").to_table()
    assert len(table) == 5 and set(table["x_2nd_look"].to_pylist()) == {"x"}
    query = f"SELECT DISTINCT run_date FROM read_parquet('{folder}/*/*', hive_partitioning=true)"
    assert {row[0] for row in duckdb.sql(query).fetchall()} == days


def test_an_export_replaces_the_one_before_it(citymask, out):
    stale = out / "exports/geoparquet/stale.parquet"
    stale.touch()
    assert export(citymask, out, "geoparquet").exit_code == 0
    assert not stale.exists() and len(list(stale.parent.iterdir())) == 1


def test_a_failed_export_leaves_the_one_before_it_and_nothing_else(citymask, out, rows):
    before = {p: p.read_bytes() for p in out.glob("exports/coco-rle/**/*") if p.is_file()}
    damaged = out / rows.loc["lund/01.jpg", "mask"]
    damaged.write_bytes(b"no PNG")
    line = refusal(export(citymask, out, "coco-rle"))
    assert str(damaged) in line and "citymask verify" in line
    assert before == {p: p.read_bytes() for p in out.glob("exports/coco-rle/**/*") if p.is_file()}
    assert not list(out.glob(".citymask/unfinished/exports/*"))


def test_exports_are_the_same_whatever_the_files_of_rows(citymask, out):
    """Compacting puts all rows into one file; parts are made of rows, not of files."""
    before = (out / "exports/geojson/photos.geojson").read_text(encoding="utf-8")
    assert citymask("compact", out).exit_code == 0
    assert export(citymask, out, "geojson").exit_code == 0
    after = (out / "exports/geojson/photos.geojson").read_text(encoding="utf-8")
    assert sorted(after.splitlines()) != [] and set(_features(after)) == set(_features(before))


def _features(text: str) -> list[str]:
    return [json.dumps(feature) for feature in json.loads(text)["features"]]


def test_workers_share_the_work(citymask, out):
    before = (out / "exports/zensvi/pixel_ratios.csv").read_bytes()
    workers = ["--direct_num_workers", 2, "--direct_running_mode", "multi_threading"]
    done = export(citymask, out, "zensvi", options=workers)
    assert done.exit_code == 0, done.output
    assert (out / "exports/zensvi/pixel_ratios.csv").read_bytes() == before


@pytest.fixture
def bucket(done, cloud_storage_at):
    """A server whose bucket `town` has the archive at `out`, without exports."""
    with GcsServer() as server, cloud_storage_at(server.url):
        server.buckets["town"] = {}
        for path in done.rglob("*"):
            name = str(path.relative_to(done))
            if path.is_file() and not name.startswith(("exports", ".citymask")):
                server.put("town", f"out/{name}", path.read_bytes())
        yield server


def test_exports_of_a_bucket_are_those_of_a_folder(citymask, done, bucket):
    names = [name for name in FORMATS if name != "geoparquet"]
    exported = export(citymask, "gs://town/out", *names)
    assert exported.exit_code == 0, exported.output
    for name in names:
        folder = done / "exports" / name
        local = {str(p.relative_to(done)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        remote = bucket.files("town", f"out/exports/{name}/")
        assert {key.removeprefix("out/"): data for key, data in remote.items()} == local


def test_an_export_in_a_bucket_is_marked_until_it_is_whole(citymask, bucket):
    bucket.put("town", "out/exports/zensvi/stale.csv", b"")
    written = []

    def before(method: str, name: str) -> None:
        if method == "UPLOAD" and name.startswith("out/exports/"):
            written.append((name, set(bucket.files("town", "out/exports/"))))

    bucket.before = before
    assert export(citymask, "gs://town/out", "zensvi").exit_code == 0
    (first, _), *others = written
    assert first == "out/exports/zensvi/UNFINISHED"
    assert others and all(first in there for _, there in others)
    assert {name.rpartition("/")[2] for name in bucket.files("town", "out/exports/")} == {
        "pixel_ratios.csv"
    }


def test_a_failed_export_to_a_bucket_leaves_nothing(citymask, bucket, rows):
    bucket.put("town", f"out/{rows.loc['lund/01.jpg', 'mask']}", b"no PNG")
    assert "citymask verify" in refusal(export(citymask, "gs://town/out", "coco-rle"))
    assert bucket.files("town", "out/exports/") == {}


def test_indicators_of_ones_own(citymask, out, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "version: mine\ngroups: {open: [sky, road]}\n"
        "indicators: {openness: {name: Openness, of: [open]}}\n"
    )
    assert export(citymask, out, "geoparquet", options=["--indicators", file]).exit_code == 0
    frame = geopandas.read_parquet(out / "exports/geoparquet")
    assert np.allclose(frame["openness"], frame["share_sky"] + frame["share_road"])
    assert set(frame["indicators_version"]) == {"mine"} and "sky_view" not in frame


def test_an_unknown_format_is_named(citymask, done):
    unknown = export(citymask, done, "shapefile")
    assert unknown.exit_code == 2
    assert "'shapefile' is not one of 'geoparquet', 'geojson'" in unknown.output


def test_a_folder_without_results(citymask, tmp_path):
    assert "citymask run" in refusal(export(citymask, tmp_path, "geojson"))
    assert list(tmp_path.iterdir()) == []


def test_an_archive_without_any_position(citymask, model, make_photo, tmp_path):
    make_photo(tmp_path / "photos/a.jpg")
    out = tmp_path / "out"
    citymask("run", tmp_path / "photos", "--output", out, "--model", model)
    line = refusal(export(citymask, out, "geojson", "zensvi", "h3"))
    assert "no row has a position, which geojson, h3 cannot be without" in line
    assert not (out / "exports").exists()


def test_an_archive_without_masks(citymask, out):
    for folder in out.glob("masks*"):
        shutil.rmtree(folder)
    assert "no masks" in refusal(export(citymask, out, "coco-rle"))
    assert export(citymask, out, "geojson").exit_code == 0


def test_a_model_of_which_cityscapes_has_no_class(citymask, tiny_model, out):
    (card,) = (out / "models").iterdir()
    document = json.loads(card.read_text(encoding="utf-8"))
    for entry, name in zip(document["classes"], ("Cloud", "Tree top", "Sea"), strict=True):
        entry["name"] = name
    card.write_text(json.dumps(document), encoding="utf-8")
    assert "Cityscapes has none of the classes" in refusal(export(citymask, out, "cityscapes"))


def test_a_folder_that_another_run_holds_is_refused(citymask, out):
    lock = OutputLock(str(out), "a run")
    lock.acquire()
    try:
        held = export(citymask, out, "geojson")
    finally:
        lock.release()
    assert held.exit_code == 4
