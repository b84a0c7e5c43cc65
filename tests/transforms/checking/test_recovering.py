"""What a run that died has left damaged is found, of the files written since it began alone."""

import os
from datetime import datetime, timedelta, timezone

import pytest

from transforms.checking.recovering import note_damage
from transforms.output import columns, names
from transforms.output.findings import (
    FILE_UNREADABLE,
    MASK_DAMAGED,
    MASK_MISSING,
    MASK_ORPHAN,
    UNREADABLE,
    Finding,
    read_findings,
    write_findings,
)

BEGAN = datetime.now(timezone.utc) - timedelta(hours=1)
BEFORE = (BEGAN - timedelta(hours=1)).timestamp()


@pytest.fixture
def found(output):
    """A function that looks for damage: kind and path of what it finds."""

    def look() -> list[tuple[str, str]]:
        note_damage(str(output), BEGAN.isoformat())
        return [(finding.kind, finding.path) for finding in read_findings(str(output))]

    return look


@pytest.fixture
def done(output):
    """Two photos that are done, in a file each."""
    for seed, name in enumerate("ab"):
        output.commit(name, output.segment(f"{name}.jpg", seed))
    return output


def test_what_is_whole_is_not_found(done, found):
    assert found() == []
    assert not (done / columns.FINDINGS).exists()


@pytest.mark.parametrize("data", [b"", bytes(4096), b"PAR1 cut short"])
@pytest.mark.parametrize("folder", columns.ROW_FOLDERS)
def test_files_of_rows(done, found, folder, data):
    done.write(f"{folder}/c.parquet", data)
    assert found() == [(FILE_UNREADABLE, f"{folder}/c.parquet")]


@pytest.mark.parametrize("name", [f"{columns.RUNS}/1.json", f"{columns.MODELS}/a.json"])
@pytest.mark.parametrize("data", [b"", bytes(4096), b'{"run_id": '])
def test_records_and_model_cards(done, found, name, data):
    done.write(name, data)
    assert found() == [(FILE_UNREADABLE, name)]


@pytest.mark.parametrize(
    "damage", [lambda mask: b"", lambda mask: bytes(len(mask)), lambda m: m[:40]]
)
def test_masks_of_rows(done, found, damage):
    mask = done / "masks" / "a.jpg.png"
    mask.write_bytes(damage(mask.read_bytes()))
    assert found() == [(MASK_DAMAGED, "masks/a.jpg.png"), (MASK_ORPHAN, "masks/a.jpg.png")]


def test_masks_of_rows_that_are_not_there(done, found):
    (done / "masks" / "b.jpg.png").unlink()
    assert found() == [(MASK_MISSING, "masks/b.jpg.png")]


@pytest.mark.parametrize("name", names.BESIDE)
def test_what_stands_beside_masks(done, found, name):
    path = names.beside("masks/a.jpg.png", name)
    done.write(path, bytes(100))
    assert found() == [(MASK_DAMAGED, "masks/a.jpg.png"), (MASK_ORPHAN, path)]


def test_masks_without_a_row_are_left_alone(done, found):
    done.write("masks/c.jpg.png", b"")
    assert found() == []


def test_what_was_written_before_is_not_read(done, found):
    done.write("failures/old.parquet", b"")
    done.write("masks/a.jpg.png", b"")
    for path in done.rglob("*"):
        os.utime(path, (BEFORE, BEFORE))
    assert found() == []


def test_a_damaged_mask_of_an_old_row_is_found(done, found):
    os.utime(done / "statistics" / "a.parquet", (BEFORE, BEFORE))
    done.write("masks/a.jpg.png", b"")
    assert (MASK_DAMAGED, "masks/a.jpg.png") in found()


@pytest.mark.parametrize("since", ["", "no time", "1970-01-01T00:00:00+00:00"])
def test_without_a_time_everything_is_read(done, since):
    done.write("failures/old.parquet", b"")
    os.utime(done / "failures" / "old.parquet", (BEFORE, BEFORE))
    note_damage(str(done), since)
    assert [finding.path for finding in read_findings(str(done))] == ["failures/old.parquet"]


def test_earlier_findings_stay(done, found):
    earlier = Finding(MASK_MISSING, "masks/x.png", "", "x", "model", "run", "gone")
    write_findings(str(done), [earlier])
    done.write("gated/c.parquet", b"")
    note_damage(str(done), BEGAN.isoformat())
    assert earlier in read_findings(str(done))
    assert len(read_findings(str(done))) == 2


def test_damaged_findings_are_set_aside(done, found):
    done.write(columns.FINDINGS, bytes(512))
    assert found() == []
    assert (done / UNREADABLE / columns.FINDINGS).exists()
