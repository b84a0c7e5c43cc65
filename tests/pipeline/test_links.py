"""Links in an output folder: nothing elsewhere is removed, emptied or replaced through them."""

import shutil
from datetime import datetime, timezone
from pathlib import Path

import pytest

from pipeline.nights.config import Retention
from pipeline.nights.retention import remove_old
from transforms import storage
from transforms.output import columns, findings, locking, stopping

LATER = datetime(2100, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A folder that is none of citymask's business."""
    folder = tmp_path / "elsewhere"
    for name in ("a", "deep/b", "lund/0.jpg.png", "1.parquet", "1.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"this is {name}")
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def plant(output: Path, name: str, target: Path) -> None:
    """Put a link in the place of a file or folder of an output folder."""
    place = output / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(target)


FOLDERS = (
    storage.WORK_FOLDER, storage.UNFINISHED, columns.MASKS, f"{columns.MASKS}/lund",
    *columns.ROW_FOLDERS, columns.RUNS, columns.MODELS, findings.UNREADABLE,
)  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_what_a_linked_folder_holds_stays(
    run, citymask, output, archive, tiny_model, elsewhere, name
):
    run()
    plant(output.path, name, elsewhere)
    before = contents(elsewhere)
    arguments = [archive, "-o", output.path, "--model", tiny_model, "--force"]
    for command in (
        ("run", *arguments), ("compact", output.path), ("verify", output.path), ("run", *arguments)
    ):  # fmt: skip
        result = citymask(*command)
        assert contents(elsewhere) == before
        assert result.exception is None or isinstance(result.exception, SystemExit)
    assert (output.path / name).is_symlink()


@pytest.mark.parametrize("name", [storage.WORK_FOLDER, storage.UNFINISHED, columns.MASKS])
def test_a_run_says_which_link_is_in_its_way(run, output, elsewhere, name):
    plant(output.path, name, elsewhere)
    result = run(code=2)
    assert f"{output.path}/{name} is a link; nothing is written or removed through" in result.output


@pytest.mark.parametrize("exists", [True, False])
def test_a_lock_that_is_a_link_is_refused(run, citymask, output, elsewhere, exists):
    run()
    file = elsewhere / ("a" if exists else "new")
    plant(output.path, locking.LOCK, file)
    before = contents(elsewhere)
    for command in ("verify", "compact"):
        result = citymask(command, output.path)
        assert result.exit_code == 2
        assert f"{output.path}/{locking.LOCK} is a link" in result.output
    run(code=2)
    assert contents(elsewhere) == before


FILES = (stopping.STOP, columns.SUMMARY_JSON, columns.REMOVED_CSV, columns.FINDINGS)


@pytest.mark.parametrize("name", FILES)
def test_a_linked_file_is_replaced_or_removed_and_its_target_stays(
    run, citymask, output, elsewhere, name
):
    plant(output.path, name, elsewhere / "a")
    before = contents(elsewhere)
    if name == columns.FINDINGS:  # A run reads it, and this is none.
        run(code=2)
        assert citymask("verify", output.path).exit_code == 2  # There are no results.
    else:
        run()
    assert contents(elsewhere) == before


def test_a_link_among_unfinished_files_is_removed_and_its_target_stays(run, output, elsewhere):
    plant(output.path, f"{storage.UNFINISHED}/deep/link", elsewhere)
    before = contents(elsewhere)
    run()
    assert list((output.path / storage.UNFINISHED).iterdir()) == []
    assert contents(elsewhere) == before


def test_orphans_are_not_looked_for_behind_a_link(run, citymask, output, elsewhere):
    run()
    shutil.copytree(output.path / columns.MASKS, elsewhere, dirs_exist_ok=True)
    (elsewhere / "lund" / "of no row.png").touch()
    plant(output.path, columns.MASKS, elsewhere)
    before = contents(elsewhere)
    assert citymask("verify", output.path).exit_code == 0  # The masks are read, though.
    plant(output.path, f"{columns.MASKS}-of@0123456789ab", elsewhere)
    assert citymask("verify", output.path).exit_code == 0
    assert contents(elsewhere) == before


@pytest.mark.parametrize("name", [columns.RUNS, columns.FAILURES])
def test_nothing_behind_a_link_is_too_old(run, output, archive, elsewhere, name):
    (archive / "lund" / "broken.jpg").write_bytes(b"not a photo")
    for _ in range(2):
        run()
    target = elsewhere / name
    shutil.move(output.path / name, target)
    plant(output.path, name, target)
    before = contents(elsewhere)
    with pytest.raises(storage.StorageError, match=f"{name} is a link"):
        remove_old(str(output.path), Retention(runs=1, failures=1), LATER)
    assert contents(elsewhere) == before


EXPORT, REPORT = ("export", "--format", "fiftyone"), ("report",)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("exports", EXPORT),
        ("exports/fiftyone", EXPORT),
        (f"{storage.UNFINISHED}/exports", EXPORT),
        ("report", REPORT),
        ("report/photos", REPORT),
    ],
)
def test_an_older_export_or_report_is_not_removed_through_a_link(
    run, citymask, output, elsewhere, name, command
):
    run()
    (elsewhere / "fiftyone").mkdir()
    (elsewhere / "fiftyone" / "of somebody").touch()
    plant(output.path, name, elsewhere)
    before = contents(elsewhere)
    result = citymask(*command, output.path)
    assert (result.exit_code == 0) == (name == "exports/fiftyone"), result.output  # It is replaced.
    assert isinstance(result.exception, SystemExit | None)
    assert contents(elsewhere) == before


def test_the_output_folder_and_those_above_it_may_be_links(run, citymask, output, elsewhere):
    (elsewhere / "disk" / "real").mkdir(parents=True)
    output.path.symlink_to(elsewhere / "disk" / "real")
    run()
    run("--force")
    assert citymask("verify", output.path).exit_code == 0
    assert citymask("compact", output.path).exit_code == 0
    assert len(output.rows) == len(output.masks) == 4
