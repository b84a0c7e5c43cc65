"""An output folder of version 0.1: every command works on it as if nothing had happened.

The archive holds photos, a model and what runs of version 0.1 wrote over them: masks with overlays
and confidences, masks of label ids, masks of windows, a failure, a duplicate that was set aside.
"""

import hashlib
import shutil
from pathlib import Path

import pandas as pd
import pytest

ARCHIVE = Path(__file__).parents[1] / "data" / "out_of_version_0.1.tar.gz"
ASKED = ["--overlay", "--confidence", "--skip-duplicates"]


@pytest.fixture(scope="module")
def older(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("older")
    shutil.unpack_archive(ARCHIVE, folder)
    return folder


@pytest.fixture(scope="module")
def again(older, citymask):
    """A function that runs over the photos as version 0.1 did, with further options."""

    def run(*options: str):
        photos = older / "photos"
        line = ["run", photos / "panos.csv", photos, "-o", older / "out"]
        result = citymask(*line, "--model", older / "model", *options)
        assert result.exit_code == 0, result.output
        return result

    return run


def digests(out: Path, *folders: str) -> dict[str, str]:
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted(out.glob(f"{folder}/**/*"))
        if path.is_file()
    }


def test_a_run_finds_nothing_new_and_changes_no_byte(older, again, output_at):
    out = older / "out"
    before = digests(out, "masks*", "statistics", "failures", "gated", "models")
    records = len(output_at(out).runs)
    for options, done in ((ASKED, 6), (["--label-ids"], 7), (["--windows", "1"], 7)):
        assert f"nothing new, 0 failed, {done} skipped" in again(*options).stdout
    assert digests(out, "masks*", "statistics", "failures", "gated", "models") == before
    assert len(output_at(out).runs) == records + 3


def test_photos_that_are_segmented_again_have_the_names_and_columns_they_had(
    older, again, output_at
):
    out = output_at(older / "out")
    before, names = out.rows, sorted(digests(out.path, "masks"))
    first = before[~before["model"].str.contains("[+]", regex=True)]
    assert "6 images done" in again(*ASKED, "--force").stdout
    assert sorted(digests(out.path, "masks")) == names
    rows = out.rows
    assert set(rows.columns) == {*before.columns, "precision"}
    second = rows[~rows["model"].str.contains("[+]", regex=True)]
    same = ["image", "width", "height", "mask", "model", "group", "latitude"]
    assert second[same].equals(first[same])
    assert second["precision"].notna().all() and rows["precision"].notna().sum() == len(second)
    assert len(rows) == len(before)


def test_verify_finds_it_whole(older, citymask):
    result = citymask("verify", older / "out")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (
        0, "20 masks and 20 rows are whole",
    ), result.output  # fmt: skip


def test_verify_finds_a_mask_of_label_ids_that_differs(older, citymask, again):
    (mask,) = older.glob("out/masks-*+label_ids/trier/b.png.png")
    other = mask.with_name("a.jpg.png").read_bytes()
    kept = mask.read_bytes()
    mask.write_bytes(other)
    result = citymask("verify", older / "out")
    assert result.exit_code == 3
    assert "1 findings" in result.stdout
    mask.write_bytes(kept)
    assert citymask("verify", older / "out").exit_code == 0


def test_report_export_and_indicators_read_it(older, citymask):
    out = older / "out"
    assert citymask("report", out).exit_code == 0
    for name in ("geoparquet", "coco-panoptic", "bigquery"):
        result = citymask("export", out, "--format", name, "--model", "tiny")
        assert result.exit_code == 0, result.output
    result = citymask("indicators", out, "--by", "group")
    assert result.exit_code == 0 and "share_tree_top" in result.stdout


def test_compact_keeps_every_row_of_both_versions(older, citymask, output_at):
    out = output_at(older / "out")

    def rows():
        return out.rows.reset_index(drop=True).sort_values(["image", "model"], ignore_index=True)

    before = rows()
    assert citymask("compact", out.path).exit_code == 0
    assert rows()[before.columns].equals(before)
    assert citymask("verify", out.path).exit_code == 0


def test_a_new_photo_beside_older_rows_is_said_to_be_of_another_precision(
    older, again, citymask, make_photo, output_at
):
    out = output_at(older / "out")
    make_photo(older / "photos" / "new.png")
    said = again("--label-ids", "--precision", "f32")
    assert "stay as they are (unknown 7); new ones are made in f32" in said.stderr
    assert "by precision: unknown 7, f32 1; --force" in said.stdout
    assert out.summary["precisions"] == {"f32": 1, "unknown": 7}
    assert citymask("compact", out.path).exit_code == 0
    assert citymask("verify", out.path).exit_code == 0
    (model,) = (m for m in out.rows["model"].unique() if m.endswith("+label_ids"))
    result = citymask("export", out.path, "--format", "bigquery", "--model", model)
    assert result.exit_code == 0, result.output
    exported = pd.read_parquet(out.path / "exports" / "bigquery")
    assert list(exported["precision"].dropna()) == ["f32"] and len(exported) == 8
