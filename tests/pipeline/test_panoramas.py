"""Panoramas from end to end: recognised, without a seam, and measured on the sphere."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
import webdataset as wds
from PIL import Image

from transforms.output import columns
from transforms.photos.xmp import GPANO

ANGLES = [f"solid_angle_{key}" for key in ("sky", "tree_top", "road")]
WHOLE = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
    xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
    xmlns:GPano="{GPANO}" GPano:ProjectionType="equirectangular"/></rdf:RDF></x:xmpmeta>"""


def angles_of(mask: np.ndarray, classes: int) -> np.ndarray:
    """Solid angles of the classes, pixel by pixel: the integral over each of them."""
    edges = np.linspace(math.pi / 2, -math.pi / 2, len(mask) + 1)
    of_row = math.tau / mask.shape[1] * (np.sin(edges[:-1]) - np.sin(edges[1:]))
    weights = np.broadcast_to(of_row[:, None], mask.shape)
    return np.bincount(mask.ravel(), weights.ravel(), classes)


def read_mask(output, row) -> np.ndarray:
    return np.asarray(Image.open(output.path / row["mask"]))


PANORAMAS = 8


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Photos of 2:1, some of them said to be panoramas, and a flat one."""
    folder = tmp_path_factory.mktemp("archive")
    random = np.random.default_rng(0)
    for name, size in {
        "claimed": (160, 80), "denied": (160, 80), "silent": (160, 80), "file": (160, 80),
        "square": (80, 80),
    }.items():  # fmt: skip
        ramp = np.linspace(0, 200, size[1])[:, None, None]
        pixels = ramp + random.uniform(0, 55, (size[1], size[0], 3))
        says = {"xmp": WHOLE.encode()} if name in ("file", "denied") else {}
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.jpg", **says)
    (folder / "list.csv").write_text(
        "uri,projection_type,projection,solid_angle_sky\n"
        "claimed.jpg,spherical,mine,1\ndenied.jpg,perspective,mine,2\nsilent.jpg,,mine,3\n"
        "file.jpg,,mine,4\nsquare.jpg,equirectangular,mine,5\n"
    )
    return folder


@pytest.fixture(scope="module")
def run(archive, tmp_path_factory, citymask, tiny_model, output_at):
    output = output_at(tmp_path_factory.mktemp("run") / "out")
    result = citymask(
        "run", archive / "list.csv", "-o", output.path, "--model", tiny_model, "--confidence"
    )
    assert result.exit_code == 0, result.output
    return output, result.output


def test_panoramas_are_those_that_metadata_or_files_say(run):
    rows = run[0].rows
    found = {name.removesuffix(".jpg"): row for name, row in rows["projection"].items()}
    assert found == {
        "claimed": "equirectangular", "file": "equirectangular",
        "denied": "perspective", "silent": "perspective", "square": "perspective",
    }  # fmt: skip
    assert rows.loc["claimed.jpg", "projection_type"] == "spherical"


def test_what_is_none_although_it_is_said_to_be_is_told(run):
    output, printed = run
    assert "2 of them panoramas" in printed
    assert "1 taken as flat (said to be panoramas)" in printed
    assert output.runs[0]["panoramas"] == {"done": 2, "contradictions": 1}


def test_solid_angles_are_those_of_the_mask(run):
    rows = run[0].rows
    for _, row in rows[rows["projection"] == "equirectangular"].iterrows():
        mask = read_mask(run[0], row)
        assert mask.shape == (80, 160)
        assert row[ANGLES].tolist() == pytest.approx(angles_of(mask, 3).tolist(), rel=1e-9)
        assert sum(row[ANGLES]) == pytest.approx(4 * math.pi, rel=1e-12)
        assert [row[f"pixels_{key}"] for key in ("sky", "tree_top", "road")] == np.bincount(
            mask.ravel(), minlength=3
        ).tolist()
        assert 0 <= row["sky_view_factor"] <= 1
    flat = rows[rows["projection"] == "perspective"]
    assert flat[[*ANGLES, "sky_view_factor"]].isna().all(axis=None)


def test_columns_stand_before_the_group_and_their_names_are_kept(run):
    names = ds.dataset(run[0].path / "statistics").to_table().column_names
    start = names.index("confidence_road") + 1
    assert names[start:] == [
        "projection", *ANGLES, "sky_view_factor", "group",
        "projection_type", "input_projection", "input_solid_angle_sky",
    ]  # fmt: skip


def test_the_output_is_whole_and_can_be_compacted(run, citymask):
    assert citymask("verify", run[0].path).exit_code == 0
    before = run[0].rows
    result = citymask("compact", run[0].path)
    assert result.exit_code == 0, result.output
    pd.testing.assert_frame_equal(run[0].rows, before)


def test_rows_from_before_panoramas_are_done_and_stay(
    archive, citymask, tiny_model, output_at, tmp_path
):
    output = output_at(tmp_path / "out")
    command = ("run", archive / "list.csv", "-o", output.path, "--model", tiny_model)
    assert citymask(*command).exit_code == 0
    (file,) = (output.path / "statistics").glob("*.parquet")
    table = pd.read_parquet(file).drop(columns=[columns.PROJECTION, *ANGLES, "sky_view_factor"])
    table.to_parquet(file)
    result = citymask(*command)
    assert result.exit_code == 0 and "nothing new" in result.output
    assert citymask("verify", output.path).exit_code == 0


def test_the_option_counts_for_all_photos_that_are_done(
    archive, citymask, tiny_model, output_at, tmp_path
):
    output = output_at(tmp_path / "out")
    command = ("run", archive, "-o", output.path, "--model", tiny_model, "--projection")
    assert citymask(*command, "perspective").exit_code == 0
    assert set(output.rows["projection"]) == {"perspective"}
    assert not set(ANGLES) & set(output.rows.columns)
    result = citymask(*command, "equirectangular")
    assert "nothing new" in result.output, "what is done stays as it is"
    assert citymask(*command, "equirectangular", "--force").exit_code == 0
    flat = output.rows.query("projection == 'perspective'")["image"]
    assert flat.tolist() == ["square.jpg"]


def test_every_night_has_the_option_too(archive, citymask, tiny_model, output_at, tmp_path):
    output = output_at(tmp_path / "out")
    (tmp_path / "nightly.yaml").write_text(
        f"inputs: [{archive}/silent.jpg]\noutput: {output.path}\nmodel: {tiny_model}\n"
        "projection: equirectangular\n"
    )
    result = citymask("nightly", tmp_path / "nightly.yaml")
    assert result.exit_code == 0, result.output
    assert output.rows["projection"].tolist() == ["equirectangular"]


def test_a_shard_says_it_in_the_json_beside_the_photo(
    archive, citymask, tiny_model, output_at, tmp_path
):
    output = output_at(tmp_path / "out")
    sample = {"__key__": "a", "jpg": (archive / "silent.jpg").read_bytes()}
    with wds.TarWriter(str(tmp_path / "a.tar")) as shard:
        shard.write(sample | {"json": json.dumps({"projection_type": "spherical"}).encode()})
    assert citymask("run", tmp_path / "a.tar", "-o", output.path, "--model", tiny_model).output
    assert output.rows["projection"].tolist() == ["equirectangular"]


def test_windows_go_around(archive, citymask, tiny_model, output_at, tmp_path):
    """The default model's windows over a panorama that is the same all around."""
    output = output_at(tmp_path / "out")
    stripes = np.tile(np.random.default_rng(1).integers(0, 256, (200, 1, 3), np.uint8), (1, 400, 1))
    Image.fromarray(stripes).save(tmp_path / "stripes.jpg", xmp=WHOLE.encode())
    result = citymask(
        "run", tmp_path / "stripes.jpg", "-o", output.path, "--model", tiny_model, "--windows", 1
    )
    assert result.exit_code == 0, result.output
    (row,) = output.rows.to_dict("records")
    mask = read_mask(output, row)
    assert row["projection"] == "equirectangular" and mask.shape == (200, 400)
    neighbours = (mask[:, 1:] != mask[:, :-1]).mean(axis=0)
    assert (mask[:, 0] != mask[:, -1]).mean() <= neighbours.max()
    assert sum(row[name] for name in ANGLES) == pytest.approx(4 * math.pi)


@pytest.fixture(scope="module")
def panoramas(shared_data, tmp_path_factory) -> Path:
    """Eight real panoramas, each as it is and turned by half."""
    source = shared_data / "street_photos" / "stuttgart_singapore"
    folder = tmp_path_factory.mktemp("panoramas")
    table = pd.read_csv(source / "metadata.csv")
    for number, name in enumerate(
        table.query("projection_type == 'spherical'")["file"][:PANORAMAS]
    ):
        pixels = np.asarray(Image.open(source / name).convert("RGB"))
        Image.fromarray(pixels).save(folder / f"{number}.png", compress_level=1)
        turned = np.roll(pixels, pixels.shape[1] // 2, axis=1)
        Image.fromarray(turned).save(folder / f"{number}_turned.png", compress_level=1)
    return folder


def test_real_panoramas_have_no_seam(panoramas, citymask, output_at, tmp_path):
    flat, whole = output_at(tmp_path / "flat"), output_at(tmp_path / "whole")
    for output, projection in ((flat, "perspective"), (whole, "equirectangular")):
        options = ["--projection", projection, "--precision", "f32"]
        result = citymask("run", panoramas, "-o", output.path, *options)
        assert result.exit_code == 0, result.output

    def seams(output) -> tuple[float, float]:
        """Mean share of rows with two classes: at the seam, and there in the turned photo."""
        masks = [read_mask(output, row) for _, row in output.rows.iterrows()]
        seam = np.mean([mask[:, 0] != mask[:, -1] for mask in masks])
        middles = [mask.shape[1] // 2 for mask in masks]
        inside = [mask[:, at] != mask[:, at - 1] for mask, at in zip(masks, middles, strict=True)]
        return float(seam), float(np.mean(inside))

    at_seam, inside = seams(whole)
    assert at_seam < 1.5 * inside
    assert seams(flat)[0] > 10 * at_seam

    def agreement(output) -> float:
        """Share of the pixels near the seam that are of the same class in the turned photo."""
        shares = []
        for number in range(PANORAMAS):
            mask, turned = (
                read_mask(output, output.rows.loc[name])
                for name in (f"{number}.png", f"{number}_turned.png")
            )
            near = np.r_[-100:100]
            turned = np.roll(turned, turned.shape[1] // 2, axis=1)
            shares.append((mask[:, near] == turned[:, near]).mean())
        return float(np.mean(shares))

    assert agreement(whole) > 0.95
    assert agreement(flat) < 0.9
