"""Findings: written and read back, and what is done with the files they name."""

import logging

import pytest

from transforms import storage
from transforms.output.findings import (
    FILE_UNREADABLE,
    MASK_DIFFERS,
    MASK_ORPHAN,
    UNREADABLE,
    Finding,
    read_findings,
    repair_files,
    write_findings,
)

DIFFERS = Finding(MASK_DIFFERS, "masks/a.png", "1-2", "a", "tiny@0", "run1", "is [red]")


def file_of(output, path: str, text: str = "x"):
    file = output / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def finding_of(output, kind: str, path: str) -> Finding:
    """A finding of a file as it is now."""
    version = storage.find(str(output / path)).version
    return Finding(kind, path, version, "", "", "", "wrong")


@pytest.fixture
def found(tmp_path):
    """A folder with an orphan and two unreadable files of one name, and findings of them."""
    kinds = {
        "masks/lund/a.png": MASK_ORPHAN,
        "statistics/a.parquet": FILE_UNREADABLE,
        "failures/a.parquet": FILE_UNREADABLE,
    }
    for path in kinds:
        file_of(tmp_path, path)
    write_findings(str(tmp_path), [finding_of(tmp_path, kinds[path], path) for path in kinds])
    return tmp_path


def test_findings_come_back_sorted(tmp_path):
    other = Finding(FILE_UNREADABLE, "failures/x.parquet", "1-2", "", "", "", "empty")
    write_findings(str(tmp_path), [DIFFERS, other])
    assert read_findings(str(tmp_path)) == [other, DIFFERS]


def test_without_findings_there_is_no_file_of_them(tmp_path):
    write_findings(str(tmp_path), [DIFFERS])
    for _ in range(2):
        write_findings(str(tmp_path), [])
        assert not (tmp_path / "findings.parquet").exists()
        assert read_findings(str(tmp_path)) == []


def test_damaged_findings_are_told_with_their_path(tmp_path):
    write_findings(str(tmp_path), [DIFFERS])
    file = tmp_path / "findings.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(storage.StorageError, match=f"^{file}: cannot be read .*verify"):
        repair_files(str(tmp_path))


def test_orphans_are_removed_and_unreadable_files_set_aside(found, caplog):
    with caplog.at_level(logging.INFO, "transforms"):
        assert repair_files(str(found)) == 3
    assert not (found / "masks/lund/a.png").exists()
    for path in ("statistics/a.parquet", "failures/a.parquet"):
        assert not (found / path).exists()
        assert (found / UNREADABLE / path).read_text() == "x"
        assert str(found / path) in caplog.text
    assert "removed 1 files" in caplog.text


def test_a_second_repair_finds_nothing_to_do(found):
    assert repair_files(str(found)) == 3
    assert repair_files(str(found)) == 0
    assert (found / UNREADABLE / "statistics/a.parquet").exists()


def test_files_written_anew_since_are_left_alone(found):
    for path in ("masks/lund/a.png", "statistics/a.parquet"):
        file_of(found, path, "new")
    assert repair_files(str(found)) == 1
    assert (found / "masks/lund/a.png").read_text() == "new"
    assert (found / "statistics/a.parquet").read_text() == "new"


def test_files_of_wrong_rows_are_left_to_the_run(tmp_path):
    file_of(tmp_path, "masks/a.png")
    write_findings(str(tmp_path), [finding_of(tmp_path, MASK_DIFFERS, "masks/a.png")])
    assert repair_files(str(tmp_path)) == 0
    assert (tmp_path / "masks/a.png").exists()


def test_a_findings_file_reaches_no_file_outside_its_folder(tmp_path):
    output, photo = tmp_path / "out", file_of(tmp_path, "photo.png")
    output.mkdir()
    reaching = [finding_of(output, MASK_ORPHAN, path) for path in ("../photo.png", str(photo))]
    write_findings(str(output), reaching)
    assert repair_files(str(output)) == 0
    assert photo.exists()


def test_an_output_folder_without_findings_needs_no_repair(tmp_path):
    assert repair_files(str(tmp_path)) == 0
