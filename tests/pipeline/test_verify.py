"""`citymask verify` from end to end: what it says of an output folder, and how it ends."""

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms.output.findings import (
    MASK_DAMAGED,
    MASK_MISSING,
    MASK_ORPHAN,
    ROW_DOUBLED,
    read_findings,
    repair_files,
)
from transforms.output.locking import OutputLock

PHOTOS = ("lund/a.jpg", "lund/[red]b[/red].jpg", "c.jpg", "d.png")


@pytest.fixture(scope="module")
def done(citymask, make_photo, tiny_model, tmp_path_factory):
    """Photos and the output folder of a run over them."""
    folder = tmp_path_factory.mktemp("verify")
    for number, name in enumerate(PHOTOS):
        make_photo(folder / "photos" / name, 56, 40 + number, seed=number)
    run = citymask(
        "run", folder / "photos", "--output", folder / "out", "--model", tiny_model,
        "--unit-size", 2, "--overlay", "--confidence",
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    return folder


@pytest.fixture
def out(done, tmp_path) -> Path:
    """The output folder, to be damaged."""
    return shutil.copytree(done / "out", tmp_path / "out")


def words(printed: str) -> str:
    """What was printed, without the frame of the table."""
    return " ".join(printed.replace("│", " ").split())


def refusal(result) -> str:
    assert result.exit_code == 2, result.output
    (line,) = result.output.splitlines()
    return line


def test_the_output_of_a_run_is_whole(citymask, out):
    verified = citymask("verify", out)
    assert verified.exit_code == 0, verified.output
    assert verified.output == "4 masks and 4 rows are whole\n"
    assert not (out / "findings.parquet").exists()


def test_what_is_wrong_is_printed_and_written(citymask, out):
    (out / "masks/lund/[red]b[/red].jpg.png").unlink()
    os.truncate(out / "masks/c.jpg.png", 400)
    (out / "masks/lund/x.png").touch()
    verified = citymask("verify", out)
    assert verified.exit_code == 3, verified.output
    printed = words(verified.output)
    assert "mask missing 1 lund/[red]b[/red].jpg: there is no such file" in printed
    assert "mask damaged 1 c.jpg: cut short" in printed
    last = verified.output.splitlines()[-1]
    assert last == f"3 findings in {out}/findings.parquet; the next run repairs them"
    assert [f.kind for f in read_findings(str(out))] == [MASK_DAMAGED, MASK_MISSING, MASK_ORPHAN]


def test_only_the_first_of_many_findings_are_printed(citymask, out):
    for mask in (out / "masks").rglob("*[gG].png"):
        mask.unlink()
    printed = words(citymask("verify", out).output)
    assert "mask missing 4" in printed
    assert printed.count("no such file") == 3


def test_a_row_that_is_lost_leaves_orphans_and_a_note(citymask, out):
    file = next((out / "statistics").glob("*.parquet"))
    pq.write_table(pq.read_table(file).slice(1), file)
    verified = citymask("verify", out)
    assert verified.exit_code == 3
    assert [f.kind for f in read_findings(str(out))] == [MASK_ORPHAN] * 3
    assert "Note: summary.json counts 4 images of tiny@" in verified.output
    assert "there are 3 rows" in verified.output


def test_a_note_alone_is_nothing_wrong(citymask, out):
    file = next((out / "statistics").glob("*.parquet"))
    table = pq.read_table(file)
    pq.write_table(table.slice(1), file)
    image = table["image"][0].as_py()
    for path in (out / "masks").rglob(f"{image.rpartition('/')[2]}.*".replace("[", "[[]")):
        path.unlink()
    verified = citymask("verify", out)
    assert verified.exit_code == 0, verified.output
    note, last = verified.output.splitlines()
    assert note.startswith("Note: summary.json counts 4")
    assert last == "3 masks and 3 rows are whole"


def test_orphans_are_gone_after_the_repair(citymask, out):
    (out / "masks/lund/x.png").touch()
    assert citymask("verify", out).exit_code == 3
    assert repair_files(str(out)) == 1
    verified = citymask("verify", out)
    assert (verified.exit_code, len(verified.output.splitlines())) == (0, 1)
    assert not (out / "findings.parquet").exists()


def test_lost_rows_are_done_anew_after_the_repair(citymask, done, out, tiny_model):
    file = next((out / "statistics").glob("*.parquet"))
    os.truncate(file, 100)
    assert citymask("verify", out).exit_code == 3
    assert repair_files(str(out)) == 1
    assert (out / ".citymask/unreadable/statistics" / file.name).is_file()
    run = citymask("run", done / "photos", "--output", out, "--model", tiny_model, "--unit-size", 2)
    assert run.exit_code == 0, run.output
    verified = citymask("verify", out)
    assert verified.output == "4 masks and 4 rows are whole\n"


def test_verifying_changes_nothing_but_the_findings(citymask, out):
    file = next((out / "statistics").glob("*.parquet"))
    table = pq.read_table(file)
    pq.write_table(pa.concat_tables([table, table]), file)
    (out / "masks/lund/x.png").touch()
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert citymask("verify", out).exit_code == 3
    assert {f.kind for f in read_findings(str(out))} == {ROW_DOUBLED, MASK_ORPHAN}
    lock = out / ".citymask" / "lock"
    now = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert now.keys() - files.keys() == {out / "findings.parquet"}
    assert all(now[path] == before for path, before in files.items() if path != lock)


def test_beams_options_are_taken(citymask, out):
    options = ["--direct_num_workers", 2, "--direct_running_mode", "multi_threading"]
    verified = citymask("verify", out, *options)
    assert verified.output == "4 masks and 4 rows are whole\n"
    assert "no_such" in refusal(citymask("verify", out, "--runner", "no_such"))


def test_an_output_folder_that_is_held_is_left_alone(citymask, out):
    lock = OutputLock(str(out), "20261122T213000Z-3f2a1b")
    lock.acquire()
    try:
        verified = citymask("verify", out)
    finally:
        lock.release()
    assert verified.exit_code == 4
    (line,) = verified.output.splitlines()
    assert "20261122T213000Z-3f2a1b" in line


def test_what_is_no_output_folder_is_refused(citymask, tmp_path):
    missing = tmp_path / "missing"
    assert refusal(citymask("verify", missing)).startswith(f"Error: {missing}: no such folder")
    assert not missing.exists()
    assert "holds neither statistics/ nor masks/" in refusal(citymask("verify", tmp_path))
    assert not list(tmp_path.iterdir())
    assert "a local folder or gs://" in refusal(citymask("verify", "s3://bucket/out"))
