"""Position, time and heading of photos: the same from every source, and no run ends over them."""

import json
import os
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image

from tests.shard_files import write_tar, write_tfrecord

PLACE = (-33.858, -70.67, 271.5)
MOMENT = datetime(2021, 3, 4, 10, 20, 30)
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
    xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
    xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="33,51.48S"
    exif:GPSLongitude="70,40.2W" exif:GPSImgDirection="543/2"
    exif:DateTimeOriginal="2021-03-04T10:20:30Z"/></rdf:RDF></x:xmpmeta>"""
WRITTEN = {
    "latitude": "33\N{DEGREE SIGN}51'28.8\"S",
    "longitude": "70.67 W",
    "captured_at": "1614853230000",
    "heading": "271,5",
}


def described(**values) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = json.dumps(values)
    return exif


def located() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "a camera"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {1: "South", 2: (33.0, 51.0, 28.8), 3: "West", 4: (70.0, 40.0, 12.0), 17: 271.5}
    )
    exif.get_ifd(ExifTags.IFD.Exif).update({36867: "2021:03:04 12:20:30", 36881: "+02:00"})
    return exif


@pytest.fixture
def photo(make_photo, tmp_path):
    """A function that gives a photo's bytes."""

    def encoded(**save) -> bytes:
        return make_photo(tmp_path / "made.jpg", **save).read_bytes()

    return encoded


def test_every_source_says_the_same_of_one_photo(run, output, tmp_path, photo):
    archive = tmp_path / "photos"
    archive.mkdir()
    (archive / "exif.jpg").write_bytes(photo(exif=located()))
    (archive / "xmp.jpg").write_bytes(photo(xmp=XMP))
    about = described(
        MAPLatitude="-33.858", MAPLongitude=-70.67, MAPCaptureTime="2021_03_04_10_20_30_000",
        MAPCompassHeading={"TrueHeading": -88.5},
    )  # fmt: skip
    (archive / "mapillary.jpg").write_bytes(photo(exif=about))
    sidecar = json.dumps({**WRITTEN, "captured_at": 1_614_853_230}).encode()
    write_tar(archive / "a.tar", [("a.jpg", photo()), ("a.json", sidecar)])
    values = {key: value.encode() for key, value in WRITTEN.items()}
    record = {"image/filename": b"a.jpg", "image/encoded": photo(), **values}
    write_tfrecord(archive / "a.tfrecord", [record])
    manifests = [tmp_path / f"list.{kind}" for kind in ("csv", "parquet")]
    for manifest in manifests:
        name = f"of_{manifest.suffix[1:]}.jpg"
        (tmp_path / name).write_bytes(photo())
        table = pd.DataFrame([{"uri": name, **WRITTEN}])
        table.to_csv(manifest) if manifest.suffix == ".csv" else table.to_parquet(manifest)
    run(inputs=[archive, *manifests])
    rows = output.rows
    assert len(rows) == 7 and not len(output.failures)
    found = rows[["latitude", "longitude", "heading"]].to_numpy()
    assert np.allclose(found, PLACE, atol=1e-6)
    assert set(rows["captured_at"]) == {MOMENT}


def test_absurd_metadata_end_no_run_by_days(run, output, tmp_path, photo):
    archive = tmp_path / "photos"
    archive.mkdir()
    for number, moment in enumerate(
        ("99999999999999999999_01_01_00_00_00_000", "9999_12_31_23_59_59_999", "0_0_0_0_0_0_0")
    ):
        about = described(MAPCaptureTime=moment, MAPLatitude=1e30, MAPLongitude=float("nan"))
        (archive / f"{number}.jpg").write_bytes(photo(exif=about))
    (archive / "good.jpg").write_bytes(photo(exif=located()))
    os.utime(archive / "0.jpg", ns=(0, -(10**18)))
    os.utime(archive / "1.jpg", ns=(0, 13_000_000_000 * 10**9))
    run("--date", "2021-03-04", "--by", "capture", inputs=[archive])
    assert list(output.rows["image"]) == ["good.jpg"]
    assert output.runs[0]["images"]["outside_dates"] == 3
    run("--from", "1930-01-01", "--to", "1940-01-01", inputs=[archive])
    assert list(output.rows["image"]) == ["0.jpg", "good.jpg"]
    run(inputs=[archive])
    assert output.rows["latitude"].notna().sum() == output.rows["captured_at"].notna().sum() == 1


def test_a_manifest_damaged_far_behind_its_first_row_is_wrong_usage(run, output, tmp_path, photo):
    (tmp_path / "0.jpg").write_bytes(photo())
    manifest = tmp_path / "list.parquet"
    pd.DataFrame({"uri": [f"{n}.jpg" for n in range(100_000)]}).to_parquet(manifest)
    data = bytearray(manifest.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = b"\xff" * 200
    manifest.write_bytes(data)
    result = run(inputs=[manifest], code=2)
    assert "list.parquet: not a readable manifest" in result.output
    assert not output.path.exists() or not output.masks


def test_a_folder_may_be_named_like_a_manifest(run, output, make_photo, tmp_path):
    make_photo(tmp_path / "list.csv" / "0.jpg")
    run(inputs=[tmp_path / "list.csv"])
    assert list(output.rows["image"]) == ["0.jpg"]
