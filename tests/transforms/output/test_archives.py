"""Archives: what an output folder says of itself."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.packages import load_package
from transforms.output import parquet
from transforms.output.archives import ArchiveError, open_archive, statistics_of, write_card


def test_a_card_says_what_the_masks_and_rows_mean(tmp_path):
    package = load_package("default")
    write_card(str(tmp_path), package)
    archive = open_archive(str(tmp_path))
    assert archive.model == package.model_id
    assert archive.classes == package.classes
    assert archive.mask_values == tuple(range(len(package.classes)))
    assert archive.card["metrics"] == package.metrics


def test_the_model_that_ran_last_is_taken_or_the_one_asked_for(tmp_path):
    for name in ("default", "unet"):
        write_card(str(tmp_path), load_package(name))
    (first,) = (tmp_path / "models").glob("default*")
    os.utime(first, (1, 1))
    assert open_archive(str(tmp_path)).model.startswith("unet@")
    assert open_archive(str(tmp_path), "default").model == load_package("default").model_id
    with pytest.raises(ArchiveError, match="'segnet'; it holds those of default@.*, unet@"):
        open_archive(str(tmp_path), "segnet")


def test_only_rows_of_the_model(tmp_path):
    package = load_package("default")
    write_card(str(tmp_path), package)
    (tmp_path / "statistics").mkdir()
    table = pa.table({"image": ["a", "b"], "model": [package.model_id, "other"], "x": [1, 2]})
    pq.write_table(table, tmp_path / "statistics/u.parquet")
    archive = open_archive(str(tmp_path))
    (found,) = statistics_of(archive, parquet.files_in(archive.output, "statistics"), ["image"])
    assert found["image"].to_pylist() == ["a"]


def test_a_folder_without_results(tmp_path):
    with pytest.raises(ArchiveError, match="citymask run"):
        open_archive(str(tmp_path))


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"model_id": "m", "classes": 3}'])
def test_a_damaged_card_is_named(tmp_path, text):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/m.json").write_text(text)
    with pytest.raises(ArchiveError, match="m.json: not a model description"):
        open_archive(str(tmp_path))
