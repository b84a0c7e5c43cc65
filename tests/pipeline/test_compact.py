"""`citymask compact`: what it prints, what it refuses, and what later runs do with its files."""

import os
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.commands import compact as command
from transforms.output import compacting
from transforms.output.locking import OutputLock
from transforms.storage import local


@pytest.fixture(autouse=True)
def nobody_lists(monkeypatch):
    soon = partial(compacting.compact, limits=compacting.Limits(listing_seconds=0))
    monkeypatch.setattr(command, "merge_files", soon)


@pytest.fixture
def small_files(output):
    """An output folder with two files of rows."""
    folder = output.path / "statistics"
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        pd.DataFrame({"image": [name]}).to_parquet(folder / f"{name}.parquet")
    return output


def files(output, folder: str = "statistics") -> list[str]:
    return sorted(path.name for path in (output.path / folder).glob("*.parquet"))


def by_image(frame: pd.DataFrame) -> dict[str, tuple]:
    return {row.image: tuple(row)[1:] for row in frame.fillna("").itertuples()}


def test_runs_and_compactions_in_turn(citymask, tmp_path, output, tiny_model, make_photo):
    archive = tmp_path / "archive"
    photos = [make_photo(archive / f"lund/{n}.png", seed=n) for n in range(5)]
    for name in ("6.png", "7.png"):
        (archive / name).write_bytes(b"no photo")
    arguments = ("run", archive, "--output", output.path, "--model", tiny_model, "--unit-size", 1)

    assert citymask(*arguments).exit_code == 0
    first = by_image(output.rows)
    result = citymask("compact", output.path)
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "statistics: 5 files became 1 (5 rows)",
        "failures: 2 files became 1 (2 rows)",
    ]
    assert by_image(output.rows) == first and len(output.failures) == 2
    (merged,) = files(output)
    statistics = output.path / "statistics"
    replaced = pq.ParquetFile(statistics / merged).read().filter(pc.field("image") == "lund/0.png")

    changed = make_photo(photos[0], seed=100)
    make_photo(archive / "lund/new.png", seed=101)
    assert citymask(*arguments).exit_code == 0
    assert [run["images"]["skipped"] for run in output.runs] == [0, 4]
    second = by_image(output.rows)
    assert len(output.rows) == 6
    assert merged in files(output) and len(files(output)) == 3
    assert len(pd.read_parquet(statistics / merged)) == 4
    name = changed.relative_to(archive).as_posix()
    after = second.pop(name)
    assert after != first.pop(name)
    new = second.pop("lund/new.png")
    assert second == first
    assert sorted(output.failures.attempts) == [1, 1, 2, 2]

    # As if the second run had been killed between the new row and the removal of the old one.
    pq.write_table(replaced, statistics / "old.parquet")
    assert "statistics: 4 files became 1 (7 rows)" in citymask("compact", output.path).output
    assert citymask(*arguments).exit_code == 0
    assert output.runs[-1]["images"]["skipped"] == 6
    assert by_image(output.rows) == second | {name: after, "lund/new.png": new}
    assert len(output.rows) == 6 and len(files(output)) == 1


def test_nothing_to_merge_is_said(citymask, small_files):
    citymask("compact", small_files.path)
    before = files(small_files)
    result = citymask("compact", small_files.path)
    assert (result.exit_code, result.output) == (
        0,
        "statistics: nothing to merge\n",
    )
    assert files(small_files) == before


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_without_statistics_is_refused_and_stays_as_it_is(citymask, tmp_path, made):
    folder = tmp_path / "no output"
    if made:
        folder.mkdir()
    result = citymask("compact", folder)
    assert result.exit_code == 2
    assert result.output == (
        f"Error: {folder}: no folder statistics there; give the output folder of a run\n"
    )
    assert os.path.exists(folder) == made and not list(tmp_path.rglob("*/*"))


def test_a_damaged_file_is_named(citymask, small_files):
    path: Path = small_files.path / "statistics" / "b.parquet"
    path.write_bytes(b"PAR1")
    result = citymask("compact", small_files.path)
    assert result.exit_code == 2
    assert result.output.startswith(f"Error: {path}: cannot be read (")
    assert result.output.endswith("the next run replaces them\n")
    assert result.output.count("\n") == 1
    assert files(small_files) == ["a.parquet", "b.parquet"]


def test_where_folders_cannot_be_exchanged_nothing_changes(citymask, small_files, monkeypatch):
    monkeypatch.setattr(local, "RENAME_EXCHANGE", 1 << 30)
    result = citymask("compact", small_files.path)
    assert result.exit_code == 2 and result.output.count("\n") == 1
    assert "this file system cannot exchange two folders" in result.output
    assert files(small_files) == ["a.parquet", "b.parquet"]


def test_an_output_folder_that_a_run_holds_is_refused(citymask, small_files):
    lock = OutputLock(str(small_files.path), "tonight")
    lock.acquire()
    result = citymask("compact", small_files.path)
    lock.release()
    assert result.exit_code == 4 and "tonight" in result.output
    assert files(small_files) == ["a.parquet", "b.parquet"]
