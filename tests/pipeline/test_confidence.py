"""`citymask run --confidence` from end to end: the images, the columns, and a run without."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from PIL import Image

KEYS = ("sky", "tree_top", "road")
"""The classes of the tiny model, as in column names."""

COLUMNS = ["confidence", *(f"confidence_{key}" for key in KEYS)]
HALF_STEP = 0.5 / 255 + 1e-9


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Photos, one of a single pixel, and a manifest with a confidence of its own."""
    folder = tmp_path_factory.mktemp("archive")
    for number, size in enumerate([(120, 80), (61, 97), (1, 1)]):
        noise = np.random.default_rng(number).integers(0, 60, (size[1], size[0], 3), np.uint8)
        ramp = np.linspace(0, 190, size[0]).astype(np.uint8)[None, :, None]
        Image.fromarray(noise + ramp).save(folder / f"{number}.png")
    lines = ["uri,confidence,camera", "0.png,high,left", "1.png,low,right", "2.png,none,left"]
    (folder / "list.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def output(archive, citymask, tiny_model, output_at):
    path = archive / "out"
    result = citymask(
        "run", archive / "list.csv", "-o", path, "--model", tiny_model, "--confidence"
    )
    assert result.exit_code == 0, result.output
    return output_at(path)


@pytest.fixture
def images(output):
    """Name, row, class ids and confidences of each photo."""

    def read(path):
        with Image.open(output.path / path) as image:
            return image.mode, np.asarray(image)

    return [
        (row, *read(row["mask"]), *read(row["mask"].removesuffix(".png") + ".confidence.png"))
        for _, row in output.rows.iterrows()
    ]


def test_a_grey_image_of_the_photos_size_stands_beside_each_mask(images):
    assert len(images) == 3
    for row, _, mask, mode, confidence in images:
        assert mode == "L" and confidence.dtype == np.uint8
        assert confidence.shape == mask.shape == (row["height"], row["width"])
        # The class of a pixel has the largest of three probabilities.
        assert confidence.min() >= 85


def test_the_means_in_the_rows_are_those_of_the_images_before_rounding(images):
    for row, _, mask, _, confidence in images:
        shares = confidence / 255
        assert row["confidence"] == pytest.approx(shares.mean(), abs=HALF_STEP)
        for class_id, key in enumerate(KEYS):
            of_class = shares[mask == class_id]
            if len(of_class):
                assert row[f"confidence_{key}"] == pytest.approx(of_class.mean(), abs=HALF_STEP)
        weighted = sum(
            row[f"confidence_{key}"] * row[f"pixels_{key}"] for key in KEYS if row[f"pixels_{key}"]
        )
        assert weighted / mask.size == pytest.approx(row["confidence"], rel=1e-12)


def test_a_class_without_pixels_has_no_mean(output):
    rows = output.rows
    assert rows["confidence"].notna().all()
    for key in KEYS:
        assert rows[f"confidence_{key}"].isna().equals(rows[f"pixels_{key}"] == 0)
    assert rows.loc["2.png", COLUMNS].isna().sum() == 2, "one pixel shows one class of three"


def test_columns_stand_between_pixels_and_metadata(output):
    table = ds.dataset(output.path / "statistics").to_table()
    start = table.column_names.index("pixels_road") + 1
    assert table.column_names[start:] == [
        *COLUMNS, "projection", "group", "input_confidence", "camera",
    ]  # fmt: skip
    assert {table.schema.field(name).type for name in COLUMNS} == {pa.float64()}
    assert sorted(table["input_confidence"].to_pylist()) == ["high", "low", "none"]


def test_the_run_record_says_so_and_counts_the_bytes_of_the_images(output):
    (record,) = output.runs
    written = sum(path.stat().st_size for path in output.path.glob("masks/**/*.png"))
    assert record["options"]["confidence"] is True
    assert record["bytes_out"] == written


def test_the_summary_and_the_masks_are_those_of_a_run_without(
    archive, output, citymask, tiny_model, output_at, tmp_path
):
    plain = output_at(tmp_path / "plain")
    citymask("run", archive / "list.csv", "-o", plain.path, "--model", tiny_model)
    assert not set(COLUMNS) & set(plain.rows.columns)
    assert plain.masks == [f"masks/{number}.png.png" for number in range(3)]
    for mask in plain.masks:
        assert (plain.path / mask).read_bytes() == (output.path / mask).read_bytes()
    assert plain.summary == output.summary
    assert plain.runs[0]["options"]["confidence"] is False


def test_photos_done_before_are_not_done_again_for_it(
    citymask, tiny_model, output_at, make_photo, tmp_path
):
    out = output_at(tmp_path / "out")
    make_photo(tmp_path / "in" / "a.jpg")
    command = ("run", tmp_path / "in", "-o", out.path, "--model", tiny_model)
    citymask(*command)
    make_photo(tmp_path / "in" / "b.jpg", seed=1)
    result = citymask(*command, "--confidence")
    assert result.exit_code == 0, result.output
    assert [path.name for path in out.path.glob("masks/*.confidence.png")] == [
        "b.jpg.confidence.png"
    ]
    query = f"""
        select image, confidence is null from
        read_parquet('{out.path}/statistics/*.parquet', union_by_name = true) order by image
    """
    assert duckdb.sql(query).fetchall() == [("a.jpg", True), ("b.jpg", False)]
