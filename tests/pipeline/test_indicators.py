"""`citymask indicators`: tables of shares and indicators on standard output."""

import csv
import io

import h3
import pytest

from models.classes import CAMVID
from models.indicators import Indicators

VERSION = Indicators.load(CAMVID).version
PLACES = {"lund/a.jpg": (55.7, 13.19), "lund/b.jpg": (55.7, 13.19), "=x/c.jpg": ("", "")}


@pytest.fixture(scope="module")
def done(citymask, make_photo, tiny_model, tmp_path_factory):
    """The output folder of a run over three photos of two groups."""
    folder = tmp_path_factory.mktemp("indicators")
    lines = ["uri,latitude,longitude"]
    for seed, (name, position) in enumerate(PLACES.items()):
        make_photo(folder / "photos" / name, seed=seed)
        lines.append(",".join(map(str, (name, *position))))
    (folder / "photos/list.csv").write_text("\n".join(lines))
    run = citymask(
        "run", folder / "photos/list.csv", "--output", folder / "out", "--model", tiny_model,
        "--unit-size", 1,
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    return folder / "out"


def table(result) -> list[dict[str, str]]:
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.stdout)))


def test_a_line_per_photo(citymask, done, output_at):
    lines = {line["image"]: line for line in table(citymask("indicators", done))}
    rows = output_at(done).rows
    assert lines.keys() == {"lund/a.jpg", "lund/b.jpg", "'=x/c.jpg"}
    for image, line in lines.items():
        row = rows.loc[image.removeprefix("'")]
        assert float(line["share_sky"]) == pytest.approx(row["pixels_sky"] / (64 * 96))
        assert line["sky_view"] == line["share_sky"] and line["indicators_version"] == VERSION


@pytest.mark.parametrize(
    ("by", "images"),
    [
        ("group", {"lund": "2", "'=x": "1"}),
        ("hexagon", {h3.latlng_to_cell(55.7, 13.19, 9): "2"}),
        ("archive", {None: "3"}),
    ],
)
def test_means_over_the_photos_of_each(citymask, done, by, images):
    lines = table(citymask("indicators", done, "--by", by))
    assert {line.get(by): line["images"] for line in lines} == images
    photos = [
        line
        for line in table(citymask("indicators", done))
        if by == "archive" or line["image"].startswith("lund")
    ]
    mean = sum(float(photo["road_share"]) for photo in photos) / len(photos)
    of_photos = next(line for line in lines if line["images"] == str(len(photos)))
    assert float(of_photos["road_share"]) == pytest.approx(mean)
    assert of_photos["indicators_version"] == VERSION


def test_hexagons_of_another_size(citymask, done):
    (line,) = table(citymask("indicators", done, "--by", "hexagon", "--resolution", 5))
    assert h3.get_resolution(line["hexagon"]) == 5


def test_indicators_of_ones_own(citymask, done, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "version: mine\ngroups: {open: [sky, road]}\n"
        "indicators: {openness: {name: Openness, of: [open]}}\n"
    )
    (line,) = table(citymask("indicators", done, "--by", "archive", "--indicators", file))
    shares = float(line["share_sky"]) + float(line["share_road"])
    assert float(line["openness"]) == pytest.approx(shares)
    assert line["indicators_version"] == "mine" and "sky_view" not in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "other"], "no results of the model 'other'"),
        (["--indicators", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(citymask, done, options, message):
    refused = citymask("indicators", done, *options)
    assert refused.exit_code == 2
    (line,) = refused.output.splitlines()
    assert message in line


def test_a_folder_without_rows(citymask, done, tmp_path):
    (tmp_path / "models").mkdir()
    for card in (done / "models").iterdir():
        (tmp_path / "models" / card.name).write_bytes(card.read_bytes())
    for by in ("image", "group"):
        refused = citymask("indicators", tmp_path, "--by", by)
        assert refused.exit_code == 2 and "no rows of the model" in refused.output
