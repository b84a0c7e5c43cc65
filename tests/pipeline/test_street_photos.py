"""The shipped model over real street photos, out of every kind of container."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import webdataset as wds
from PIL import Image

from models.classes import CAMVID
from models.packages import load_package
from tests.shard_files import write_tfrecord

PIXELS = [f"pixels_{key}" for key in CAMVID.keys]
VOID = 11
FIRST_LUND_PHOTO = (55 + 41 / 60 + 53.4 / 3600, 13 + 11 / 60 + 43.4 / 3600)


@pytest.fixture(scope="module")
def camvid(shared_data) -> list[Path]:
    """Every fifth photo of CamVid val."""
    return sorted((shared_data / "camvid" / "val").glob("*.png"))[::5]


@pytest.fixture(scope="module")
def metadata(shared_data) -> pd.DataFrame:
    """What is known of some Mapillary photos, flat ones and panoramas, in a manifest's columns."""
    folder = shared_data / "street_photos" / "stuttgart_singapore"
    table = pd.read_csv(folder / "metadata.csv")
    table = table.groupby("projection_type").head(3).reset_index(drop=True)
    table["uri"] = [str(folder / name) for name in table["file"]]
    return table.rename(
        columns={
            "lat": "latitude", "lon": "longitude", "datetime_local": "captured_at", "city": "group"
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, shared_data, camvid, metadata, citymask, output_at):
    """One run over all of it: the output, read with pandas."""
    root = tmp_path_factory.mktemp("street_photos")
    for folder, files in (("camvid", camvid), ("mapillary", map(Path, metadata["uri"]))):
        (root / folder).mkdir()
        for file in files:
            shutil.copy(file, root / folder)
    with wds.TarWriter(str(root / "val.tar")) as shard:
        for number, file in enumerate(camvid):
            described = json.dumps({"latitude": 52.2, "longitude": 0.1, "frame": number})
            sample = {"__key__": file.stem, "png": file.read_bytes(), "json": described.encode()}
            shard.write(sample)
    examples = [
        {
            "image/encoded": file.read_bytes(),
            "image/filename": file.name.encode(),
            "image/format": b"png",
        }
        for file in camvid
    ]
    write_tfrecord(root / "val.tfrecord", examples)
    metadata.to_csv(root / "manifest.csv", index=False)
    inputs = [root / name for name in ("camvid", "val.tar", "val.tfrecord", "mapillary")]
    inputs += [root / "manifest.csv", shared_data / "street_photos" / "lund"]
    result = citymask("run", *inputs, "--output", root / "out")
    assert result.exit_code == 0, result.output
    return output_at(root / "out")


def test_every_photo_is_done_with_the_shipped_model(run, camvid, metadata):
    images = run.runs[0]["images"]
    assert images["done"] == len(run.rows) == 3 * len(camvid) + 2 * len(metadata) + 8
    assert images["failed"] == 0
    assert set(run.rows["model"]) == {load_package("default").model_id}


def test_counts_add_up_to_the_size_of_each_photo(run):
    rows = run.rows
    assert (rows[PIXELS].sum(axis=1) == rows["width"] * rows["height"]).all()


@pytest.mark.parametrize("shard", ["val.tar", "val.tfrecord"])
def test_a_photo_has_the_same_counts_in_a_directory_and_in_a_shard(run, camvid, shard):
    rows = run.rows
    for photo in camvid:
        alone, member = rows.loc[photo.name], rows.loc[f"{shard}/{photo.name}"]
        assert alone[PIXELS].tolist() == member[PIXELS].tolist()
        masks = [(run.path / row["mask"]).read_bytes() for row in (alone, member)]
        assert masks[0] == masks[1]


def test_a_flat_photo_has_the_same_counts_in_a_directory_and_in_a_manifest(run, metadata):
    rows = run.rows
    listed = rows[rows["uri"].isin(metadata["uri"])]
    assert len(listed) == len(metadata)
    for _, row in listed.iterrows():
        alone = rows.loc[Path(row["uri"]).name]
        same = alone[PIXELS].tolist() == row[PIXELS].tolist()
        assert same == (row["projection_type"] == "perspective")


def test_panoramas_are_those_that_the_manifest_names(run, metadata):
    found = run.rows.set_index("uri").loc[metadata["uri"], "projection"].tolist()
    expected = metadata["projection_type"].replace("spherical", "equirectangular").tolist()
    assert found == expected
    assert (run.rows["projection"] == "equirectangular").sum() == found.count("equirectangular")


def test_a_manifest_gives_its_rows_position_time_heading_group_and_more(run, metadata):
    rows = run.rows.set_index("uri").loc[metadata["uri"]].reset_index()
    for name in ("latitude", "longitude", "heading"):
        np.testing.assert_allclose(rows[name], metadata[name])
    taken = pd.to_datetime(metadata["captured_at"], format="ISO8601", utc=True)
    assert rows["captured_at"].tolist() == taken.dt.tz_localize(None).tolist()
    for name in ("group", "projection_type", "creator_username", "country", "file"):
        assert rows[name].tolist() == metadata[name].tolist()
    assert rows["orig_width"].tolist() == metadata["orig_width"].tolist()


def test_metadata_beside_a_shard_member_stands_in_its_row(run, camvid):
    rows = run.rows.loc[[f"val.tar/{photo.name}" for photo in camvid]]
    assert set(zip(rows["latitude"], rows["longitude"], strict=True)) == {(52.2, 0.1)}
    assert rows["frame"].tolist() == list(range(len(camvid)))


def test_photos_of_lund_have_the_position_of_their_exif(run):
    rows = run.rows.loc[[f"{number:02}.jpg" for number in range(1, 9)]]
    first = rows.iloc[0]
    assert (first["latitude"], first["longitude"]) == pytest.approx(FIRST_LUND_PHOTO, abs=1e-9)
    assert rows["latitude"].between(55.698, 55.699).all()
    assert rows["longitude"].between(13.194, 13.196).all()


def test_panoramas_and_flat_photos_get_masks_of_their_size(run, metadata):
    for name in metadata["file"]:
        row = run.rows.loc[name]
        with Image.open(run.path / row["mask"]) as mask:
            assert mask.size == (row["width"], row["height"])


def test_streets_look_like_streets(run):
    """A sanity check of the whole way: photos of a street show ground, buildings and sky.

    The lane is cobbled from wall to wall, without a kerb: road or pavement, whichever one sees.
    """
    lund = run.rows.loc[[f"{number:02}.jpg" for number in range(1, 9)]]
    shares = lund[PIXELS].sum() / lund[PIXELS].to_numpy().sum()
    assert shares["pixels_road"] + shares["pixels_pavement"] > 0.2
    assert shares["pixels_building"] > 0.1
    assert shares["pixels_sky"] > 0.02


def test_masks_of_camvid_val_agree_with_its_labels(run, camvid):
    confusion = np.zeros((len(CAMVID), len(CAMVID)), np.int64)
    for photo in camvid:
        label = np.asarray(Image.open(photo.parent.with_name("valannot") / photo.name))
        mask = np.asarray(Image.open(run.path / "masks" / f"{photo.name}.png"))
        assert mask.shape == label.shape
        pairs = label.astype(int) * len(CAMVID) + mask
        confusion += np.bincount(pairs[label != VOID], minlength=len(CAMVID) ** 2).reshape(
            confusion.shape
        )
    hits = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    assert (hits / union)[union > 0].mean() > 0.5
