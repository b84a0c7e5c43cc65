"""`citymask report`: each figure of the page against the rows it is of, and the pictures."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from models.indicators import Indicators
from models.packages import Calibration, add_calibration, load_package
from tests.reports import Report

DEMO = Path(__file__).parents[2] / "demo" / "photos"
PACKAGE = load_package("default")
KEYS = PACKAGE.classes.keys
BROKEN = b"</script>\xe2\x80\xa8 no photo"
HOSTILE = "</script><img src=x onerror=alert(1)> ' \" \u2028 ü 100% $(id).jpg"

SPHERE = " + ".join(f"solid_angle_{key}" for key in KEYS)
SHARES = ", ".join(
    f"coalesce(solid_angle_{key} / ({SPHERE}), pixels_{key} / (width * height)) AS {key}"
    for key in KEYS
)
INDICATORS = """
    tree AS green_view_index, sky AS sky_view, building AS building_view, road AS road_share,
    pavement AS pavement_share,
    CASE WHEN road + pavement + fence > 0
         THEN (building + tree) / (road + pavement + fence) END AS enclosure,
    car + bicyclist AS vehicle_share
"""
MEASURES = [
    *KEYS,
    *("green_view_index", "sky_view", "building_view", "road_share", "pavement_share"),
    *("enclosure", "vehicle_share"),
]


@dataclass(frozen=True)
class Rows:
    """What DuckDB finds in the rows of an output folder."""

    path: Path
    model: str = PACKAGE.model_id

    def ask(self, query: str) -> pd.DataFrame:
        """The answer to a query over `photos`: all rows, and a column per measure."""
        files = f"read_parquet('{self.path}/statistics/*.parquet', union_by_name=true)"
        return duckdb.sql(
            f"WITH shares AS (SELECT *, {SHARES} FROM {files} WHERE model = '{self.model}'), "
            f"photos AS (SELECT *, {INDICATORS} FROM shares) {query}"
        ).df()

    def means(self, by: str = "''") -> pd.DataFrame:
        averages = ", ".join(f"avg({name}) AS {name}" for name in MEASURES)
        return self.ask(
            f"SELECT {by} AS key, count(*) AS images, {averages} FROM photos "
            f"WHERE {by} IS NOT NULL GROUP BY {by} ORDER BY key"
        ).set_index("key")


def near(values: list[float | None], expected: pd.Series) -> bool:
    """Whether rounded values are those expected; None stands for what is not defined."""
    found = np.array([np.nan if value is None else value for value in values])
    return np.allclose(found, expected.astype(float), atol=0.51e-4, equal_nan=True)


def make_photos(folder: Path) -> Path:
    """An archive of demo photos as they are, turned, and cut; a panorama; two broken files."""
    demo = sorted(DEMO.rglob("*.jpg"))
    folder.mkdir()
    for number, path in enumerate(demo):
        with Image.open(path) as image:
            image.thumbnail((900, 900))
            width, height = image.size
            exif = Image.Exif()
            exif[0x0112] = 6  # Stored lying on its side.
            image.save(folder / f"{number}.jpg")
            image.save(folder / f"{number}-turned.jpg", exif=exif)
            image.crop((0, 0, width, height // 2)).save(folder / f"{number}-top.jpg")
            image.resize((512, 256)).save(folder / "panorama.jpg")
    (folder / HOSTILE).parent.mkdir()
    shutil.copy(folder / "0-top.jpg", folder / HOSTILE)
    (folder / "bad.jpg").write_bytes(BROKEN)
    (folder / "worse.jpg").write_bytes(BROKEN)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))
    manifest = {
        "uri": names,
        "group": ["Main <b>Street</b>" if n % 3 else "Side Street" for n in range(len(names))],
        "latitude": [55.7 + n / 1000 if n % 4 else None for n in range(len(names))],
        "longitude": [13.2 + n / 1000 for n in range(len(names))],
        "heading": [n * 10.123456 for n in range(len(names))],
        "captured_at": ["2026-06-01T10:00:00"] * len(names),
        "projection_type": ["spherical" if name == "panorama.jpg" else None for name in names],
    }
    pd.DataFrame(manifest).to_csv(folder / "list.csv", index=False)
    return folder / "list.csv"


@pytest.fixture(scope="module")
def out(citymask, tmp_path_factory) -> Path:
    """The output folder of two runs over an archive, the second of which had nothing new to do."""
    folder = tmp_path_factory.mktemp("report")
    manifest = make_photos(folder / "photos")
    calibration = Calibration(1.2, 0.02, 0.01, unlike_above=0.15, made={})
    model = add_calibration(PACKAGE, folder / "model", calibration).path
    line = ["run", manifest, "--output", folder / "out", "--model", model, "--confidence"]
    for _ in range(2):
        done = citymask(*line)
        assert done.exit_code == 0, done.output
    return folder / "out"


@pytest.fixture(scope="module")
def report(citymask, out) -> Report:
    written = citymask("report", out)
    assert written.exit_code == 0, written.output
    assert written.stdout.splitlines()[-1] == f"{out}/report/index.html"
    return Report(out / "report")


@pytest.fixture(scope="module")
def rows(out) -> Rows:
    return Rows(out)


def test_the_model_and_its_measures_are_named(report, out):
    data = report.data
    assert (data["format"], data["output"]) == (1, "out")
    assert data["model"]["id"] == PACKAGE.model_id
    assert data["model"]["input"] == [512, 384]
    assert data["model"]["metrics"]["miou"] == PACKAGE.metrics["miou"]
    assert [tuple(entry["colour"]) for entry in data["classes"]] == [
        entry.color for entry in PACKAGE.classes.classes
    ]
    assert [measure["key"] for measure in data["measures"]] == MEASURES
    assert [measure["kind"] for measure in data["measures"]] == ["class"] * len(KEYS) + (
        ["indicator"] * (len(MEASURES) - len(KEYS))
    )
    (ratio,) = (measure for measure in data["measures"] if not measure["share"])
    assert ratio["key"] == "enclosure" and "Cities 110" in ratio["source"]
    assert data["indicators_version"] == Indicators.load(PACKAGE.classes).version


def test_photos_are_counted_by_what_became_of_them(report, rows):
    query = "count(*) AS n, count(latitude) AS positioned, sum(unlike_training::int) AS unlike"
    known = rows.ask(f"SELECT {query} FROM photos").iloc[0]
    assert report.data["images"] == {
        "done": known.n, "failed": 2, "skipped": known.n, "positioned": known.positioned,
        "unlike": known.unlike,
    }  # fmt: skip
    assert known.n == 14 and 0 < known.positioned < 14


def test_totals_are_those_of_the_rows(report, rows):
    totals = report.data["totals"]
    sums = ", ".join(
        f"sum(pixels_{key}) AS p_{key}, count(*) FILTER (pixels_{key} > 0) AS i_{key}"
        for key in KEYS
    )
    counted = rows.ask(f"SELECT {sums} FROM photos").iloc[0]
    assert totals["pixels"] == [counted[f"p_{key}"] for key in KEYS]
    assert totals["images"] == [counted[f"i_{key}"] for key in KEYS]
    assert near(totals["values"], rows.means().loc["", MEASURES])


def test_each_distribution_counts_every_photo_that_has_a_value(report, rows):
    for measure, found in zip(MEASURES, report.data["distributions"], strict=True):
        edges = found["edges"]
        assert len(edges) == len(found["counts"]) + 1 and edges[0] == 0
        values = rows.ask(f"SELECT {measure} AS v FROM photos WHERE v IS NOT NULL").v
        assert values.max() <= edges[-1]
        assert found["counts"] == np.histogram(values, edges)[0].tolist()
        assert sum(found["counts"]) == len(values)


def test_groups_are_means_over_their_photos_the_largest_first(report, rows):
    groups = report.data["groups"]
    expected = rows.means('"group"')
    assert groups["left_out"] == 0
    assert [group["name"] for group in groups["rows"]] == ["Main <b>Street</b>", "Side Street"]
    for group in groups["rows"]:
        assert group["images"] == expected.images[group["name"]]
        assert near(group["values"], expected.loc[group["name"], MEASURES])


def test_the_gallery_repeats_the_rows(report, rows):
    expected = rows.ask("SELECT * FROM photos ORDER BY image").set_index("image")
    gallery = report.data["gallery"]
    assert [photo["image"] for photo in gallery] == list(expected.index)
    assert [photo["id"] for photo in gallery] == [str(n) for n in range(1, 15)]
    for photo in gallery:
        row = expected.loc[photo["image"]]
        assert (photo["width"], photo["height"]) == (row.width, row.height)
        assert photo["group"] == row["group"]
        known = not np.isnan(row.latitude)
        position = [round(row.latitude, 6), round(row.longitude, 6)] if known else None
        assert photo["position"] == position
        assert photo["captured_at"] == row.captured_at.isoformat() == "2026-06-01T10:00:00"
        assert photo["heading"] == pytest.approx(row.heading, abs=1e-4)
        panorama = photo["image"] == "panorama.jpg"
        assert photo["projection"] == ("equirectangular" if panorama else "perspective")
        assert photo["confidence"] == pytest.approx(row.confidence, abs=1e-4)
        assert photo["uncertainty"] == pytest.approx(row.uncertainty, abs=1e-4)
        assert photo["unlike"] == row.unlike_training == (row.uncertainty > 0.15)
        assert ("unlike_training" not in photo["reasons"]) or photo["unlike"]
        assert near(photo["values"], row[MEASURES])
        assert photo["reasons"] and photo["photo"]


def test_extremes_are_the_photos_with_the_most_and_the_least(report, rows):
    data = report.data
    images = {photo["id"]: photo["image"] for photo in data["gallery"]}
    reasons = {photo["id"]: photo["reasons"] for photo in data["gallery"]}
    for measure, found in zip(MEASURES, data["extremes"], strict=True):
        values = rows.ask(f"SELECT image, {measure} AS v FROM photos WHERE v IS NOT NULL")
        by_image = values.set_index("image").v
        most = [by_image[images[identity]] for identity in found["most"]]
        least = [by_image[images[identity]] for identity in found["least"]]
        assert most == sorted(by_image[by_image > 0], reverse=True)[: len(most)]
        assert least == sorted(by_image)[: len(least)]
        assert len(least) == 6 and len(most) == min(6, (by_image > 0).sum())
        for end in ("most", "least"):
            chosen = {i for i, given in reasons.items() if f"{end}:{measure}" in given}
            assert chosen == set(found[end])


def test_few_photos_are_points_on_the_map(report, rows):
    chart, gallery = report.data["map"], report.data["gallery"]
    ids = {photo["image"]: photo["id"] for photo in gallery}
    expected = rows.ask("SELECT * FROM photos WHERE latitude IS NOT NULL ORDER BY image")
    assert (chart["kind"], chart["resolution"], chart["tiles"]) == ("points", None, None)
    latitudes, longitudes = expected.latitude.round(6), expected.longitude.round(6)
    assert chart["bounds"] == [
        latitudes.min(), longitudes.min(), latitudes.max(), longitudes.max()
    ]  # fmt: skip
    assert [point["name"] for point in chart["features"]] == list(expected.image)
    for point, (_, row) in zip(chart["features"], expected.iterrows(), strict=True):
        assert point["position"] == [round(row.latitude, 6), round(row.longitude, 6)]
        assert (point["cell"], point["images"]) == (None, 1)
        assert point["photo"] == ids[row.image]
        assert near(point["values"], row[MEASURES])


def test_failures_are_counted_by_stage_and_error(report):
    (kind,) = report.data["failures"]
    assert (kind["stage"], kind["error"], kind["count"]) == ("decode", "DecodeError", 2)
    assert kind["examples"] == ["bad.jpg", "worse.jpg"]
    assert "</script>" in kind["message"]


def test_nights_and_settings_are_those_of_the_run_records(report, out):
    records = sorted(
        (json.loads(path.read_text()) for path in (out / "runs").glob("*.json")),
        key=lambda record: record["run_id"],
    )
    data = report.data
    assert len(data["nights"]) == 2
    for night, record in zip(data["nights"], records, strict=True):
        for key in ("run_id", "started_at", "seconds", "images", "images_per_second"):
            assert night[key] == record[key]
        assert (night["alarms"], night["interrupted"]) == ([], None)
    first, second = (night["shares"] for night in data["nights"])
    pixels = np.array(list(records[0]["pixels"].values()))
    assert np.allclose(first, pixels / pixels.sum(), atol=1e-4) and second is None
    assert data["settings"]["run_id"] == records[1]["run_id"]
    assert data["settings"]["options"] == records[1]["options"]
    assert data["settings"]["versions"] == records[1]["versions"]


def test_pictures_show_the_photo_upright_and_its_mask_pixel_for_pixel(report, out, rows):
    by_image = rows.ask("SELECT image, uri, mask FROM photos").set_index("image")
    for photo in report.data["gallery"]:
        width, height = photo["width"], photo["height"]
        scale = 640 / max(width, height)
        size = (round(width * scale), round(height * scale)) if scale < 1 else (width, height)
        with report.picture(photo["id"]) as picture:
            assert picture.size == size and not picture.getexif()
            shown = np.asarray(picture, np.float64)
        with Image.open(by_image.uri[photo["image"]]) as original:
            turned = original.rotate(-90, expand=True) if "turned" in photo["image"] else original
            expected = np.asarray(turned.resize(size, Image.Resampling.BOX), np.float64)
        assert np.abs(shown - expected).mean() < 12
        with Image.open(out / by_image["mask"][photo["image"]]) as mask:
            nearest = np.asarray(mask.resize(size, Image.Resampling.NEAREST))
        assert np.array_equal(report.mask(photo["id"]), nearest)


def test_overlays_are_small_and_have_the_colours_of_both(report):
    for photo in report.data["gallery"]:
        with report.picture(photo["id"], ".overlay.jpg") as overlay:
            assert max(overlay.size) == 240
            found = np.asarray(overlay, np.float64)
            size = overlay.size
        with report.picture(photo["id"]) as picture:
            seen = np.asarray(picture.resize(size, Image.Resampling.BOX), np.float64)
        mask = Image.fromarray(report.mask(photo["id"])).resize(size, Image.Resampling.NEAREST)
        colours = np.array([entry.color for entry in PACKAGE.classes.classes])
        assert np.abs(found - (seen + colours[np.asarray(mask)]) / 2).mean() < 12


def test_names_of_photos_reach_no_path_and_cannot_end_the_script(report):
    page = Path(__file__).parents[2] / "transforms" / "reporting" / "page"
    static = {p.relative_to(page).as_posix() for p in page.rglob("*") if p.is_file()}
    others = set(report.files) - static - {"data.js"}
    assert others and static <= set(report.files)
    assert all(re.fullmatch(r"photos/\d+(\.jpg|\.overlay\.jpg|\.mask\.js)", f) for f in others)
    assert HOSTILE in {photo["image"].replace("%25", "%") for photo in report.data["gallery"]}
    assert b"<" not in (report.path / "data.js").read_bytes()


def test_the_same_archive_has_the_same_report(citymask, report, out, tmp_path):
    again = shutil.copytree(out, tmp_path / "out")
    shutil.rmtree(again / "report")
    assert citymask("report", again).exit_code == 0
    first, second = report.data, Report(again / "report").data
    for data in (first, second):
        data.pop("created_at")
    assert first == second
    assert report.files == Report(again / "report").files
