"""Photos whose masks could stand in each other's way: each gets its own, in every run."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.shard_files import write_tar

BESIDE = ["--overlay", "--confidence"]


@pytest.fixture
def clashing(tmp_path, make_photo):
    """Photos `a.jpg`, and folders named like what is written for it; with a shard of the same."""
    folder = tmp_path / "clashing"
    names = ["a.jpg", "a.jpg.png/x.jpg", "a.jpg.overlay.jpg/x.jpg", "a.jpg.confidence.png/x.jpg"]
    deep = "/".join(["d" * 200] * 30 + ["x.jpg"])
    for number, name in enumerate(names):
        make_photo(folder / name, seed=number)
    data = (folder / "a.jpg").read_bytes()
    write_tar(folder / "s.tar", [(name, data) for name in (*names, deep, f"{deep}.png/x.jpg")])
    return folder


def test_a_photo_and_a_folder_named_like_its_mask_are_both_done(run, output, clashing, citymask):
    run(*BESIDE, inputs=[clashing])
    masks = output.rows["mask"].to_dict()
    assert len(masks) == 10 and output.failures.empty
    assert masks["a.jpg"] == "masks/a.jpg.png"
    assert masks["s.tar/a.jpg"] == "masks/s.tar/a.jpg.png"
    assert len(list(output.path.glob("masks/**/*.*g"))) >= 30
    assert "10 skipped" in run(*BESIDE, inputs=[clashing]).stdout
    run(*BESIDE, "--force", inputs=[clashing])
    assert output.rows["mask"].to_dict() == masks
    assert citymask("verify", output.path).exit_code == 0


def test_rows_of_an_older_version_keep_their_masks(run, output, clashing, citymask):
    """There a folder named like a mask kept its name, where no photo was in its way."""
    (clashing / "a.jpg").unlink()
    (clashing / "s.tar").unlink()
    run(inputs=[clashing])
    older = "masks/a.jpg.png/x.jpg.png"
    (output.path / older).parent.mkdir()
    (output.path / output.rows.loc["a.jpg.png/x.jpg", "mask"]).rename(output.path / older)
    change_masks(output, lambda mask: older if "/a.jpg.png~" in mask else mask)
    assert citymask("verify", output.path).exit_code == 0
    assert "nothing new" in run(inputs=[clashing]).stdout
    assert output.rows.loc["a.jpg.png/x.jpg", "mask"] == older
    for name in ("coco-panoptic", "bigquery"):
        assert citymask("export", output.path, "--format", name).exit_code == 0
    assert citymask("report", output.path).exit_code == 0


@pytest.mark.parametrize("folder", ["..", "", "other", "masks-mine"])
def test_rows_that_lie_about_their_masks_lead_no_mask_out_of_its_folder(run, output, folder):
    run()
    before = output.masks
    change_masks(output, lambda mask: f"{folder}/{mask.partition('/')[2]}")
    run("--force")
    assert output.masks == before
    assert set(output.rows["mask"]) == set(before)


def change_masks(output, change) -> None:
    for file in (output.path / "statistics").glob("*.parquet"):
        table = pq.read_table(file)
        masks = pa.array([change(mask) for mask in table["mask"].to_pylist()])
        index = table.column_names.index("mask")
        pq.write_table(table.set_column(index, table.field(index), [masks]), file)
