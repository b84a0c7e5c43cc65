"""Verifying: every kind of damage to an output folder is found, and nothing else is."""

import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from PIL import Image

from models.packages import load_package
from transforms.checking.verifying import VerifyOutput, settle, shared_name, summary_note
from transforms.flow.records import Failure
from transforms.output import archives, names
from transforms.output.findings import (
    FILE_UNREADABLE,
    MASK_DAMAGED,
    MASK_DIFFERS,
    MASK_MISSING,
    MASK_ORPHAN,
    ROW_DOUBLED,
    ROW_WRONG,
    Finding,
    read_findings,
)

LABEL_IDS = np.array([7, 3, 200], np.uint8)
LONG = "ü" * 120
"""A name that is cut."""


def verify(output) -> list[Finding]:
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        found = pipeline | VerifyOutput(str(output)) | beam.combiners.ToList()
        found | beam.Map(settle, str(output))
    return read_findings(str(output))


def verify_one(output) -> Finding:
    (finding,) = verify(output)
    return finding


def test_whole_outputs_have_no_findings(output, photos):
    assert verify(output) == []


def test_masks_that_changed_places_are_both_found(output, photos):
    first, second = (output / photos[number].planned.mask for number in (0, 2))
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    assert [(f.kind, f.image) for f in verify(output)] == [
        (MASK_DIFFERS, "lund/a.jpg"),
        (MASK_DIFFERS, "lund/c.jpg"),
    ]


def commit_label_ids(output):
    """Two photos whose masks hold label ids; return their file."""
    palette = output.CLASSES.palette(LABEL_IDS.tolist())
    items = [output.segment(f"{n}.jpg", n, palette=palette, values=LABEL_IDS) for n in (0, 2)]
    return output.commit("one", *items, values=LABEL_IDS.tolist())


def test_masks_of_label_ids_are_compared_value_by_value(output):
    commit_label_ids(output)
    assert verify(output) == []
    palette = output.CLASSES.palette(LABEL_IDS.tolist())
    output.segment("0.jpg", 0, palette=palette, values=LABEL_IDS[::-1])
    finding = verify_one(output)
    assert (finding.kind, finding.image) == (MASK_DIFFERS, "0.jpg")
    assert "pixels of value 7, but pixels_sky of its row is" in finding.message


def test_masks_are_compared_by_their_counts_if_nothing_says_their_values(output):
    file = commit_label_ids(output)
    pq.write_table(pq.read_table(file).replace_schema_metadata(None), file)
    assert verify(output) == []
    output.write("masks/0.jpg.png", (output / "masks/2.jpg.png").read_bytes())
    finding = verify_one(output)
    assert (finding.kind, finding.image) == (MASK_DIFFERS, "0.jpg")
    assert "pixels per class, its row says" in finding.message


def test_a_models_card_says_its_colours(output):
    package = load_package("default")
    output.commit("one", output.segment("a.jpg"), model=package.model_id)
    assert verify(output) == []
    archives.write_card(str(output), package)
    assert "other colours" in verify_one(output).message
    palette = package.classes.palette()
    output.commit("one", output.segment("a.jpg", palette=palette), model=package.model_id)
    assert verify(output) == []


def test_a_card_that_cannot_be_read_is_passed_over(output, photos):
    output.write("models/tiny.json", b'{"model_id": "tiny"}')
    assert verify(output) == []


@pytest.fixture
def old_output(tmp_path):
    """An output folder of version 0.1, whose files of rows say nothing of their classes."""
    shutil.unpack_archive(Path(__file__).parents[2] / "data/out_of_version_0.1.tar.gz", tmp_path)
    return tmp_path / "out"


def test_the_output_of_version_0_1_is_verified_with_the_values_of_its_cards(old_output):
    assert verify(old_output) == []
    (mask,) = old_output.glob("masks-*+label_ids/trier/a.jpg.png")
    with Image.open(mask) as image:
        palette, values = image.getpalette(), np.asarray(image)
    moved = Image.fromarray(np.where(values == values.max(), 255, values).astype(np.uint8))
    moved.putpalette(palette)
    moved.save(mask)
    finding = verify_one(old_output)
    assert (finding.kind, finding.image) == (MASK_DIFFERS, "trier/a.jpg")
    assert "pixels of value" in finding.message


def test_each_model_has_colours_of_its_own(output, photos):
    folder, palette = "masks-other@ba9876543210", bytes(range(256)) * 3
    item = output.segment("lund/a.jpg", 5, folder=folder, palette=palette)
    output.commit("other", item, model="other@ba9876543210")
    assert verify(output) == []


def test_of_two_rows_of_an_image_the_older_is_doubled(output, photos):
    output.commit("three", output.segment("lund/a.jpg", 4), run_id="run2")
    finding = verify_one(output)
    assert (finding.kind, finding.path) == (ROW_DOUBLED, "statistics/one.parquet")
    assert (finding.image, finding.model, finding.run_id) == ("lund/a.jpg", output.MODEL, "run1")


def test_a_file_of_rows_copied_beside_itself_doubles_them(output, photos):
    data = (output / "statistics/one.parquet").read_bytes()
    output.write("statistics/copy.parquet", data)
    found = verify(output)
    assert [(f.kind, f.image, f.path) for f in found] == [
        (ROW_DOUBLED, "lund/a.jpg", "statistics/copy.parquet"),
        (ROW_DOUBLED, "lund/b.jpg", "statistics/copy.parquet"),
    ]


def test_rows_doubled_within_a_file_are_found(output, photos):
    file = output / "statistics" / "one.parquet"
    table = pq.read_table(file)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1), table.slice(0, 1)]), file)
    assert [(f.kind, f.image) for f in verify(output)] == [(ROW_DOUBLED, "lund/a.jpg")] * 2


def test_a_mask_whose_row_is_gone_is_an_orphan_with_all_beside_it(output, photos):
    file = output / "statistics" / "two.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    found = verify(output)
    assert [(f.kind, f.path) for f in found] == [
        (MASK_ORPHAN, "masks/lund/c.jpg.confidence.png"),
        (MASK_ORPHAN, "masks/lund/c.jpg.overlay.jpg"),
        (MASK_ORPHAN, "masks/lund/c.jpg.png"),
    ]
    assert all(f.version and not (f.image or f.model or f.run_id) for f in found)


def test_what_runs_did_not_write_is_no_orphan(output, photos, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "photo.png").touch()
    (output / "masks" / "link").symlink_to(elsewhere)
    for path in ("masks/README.txt", "masks/x.jpg", "masks-backup/lund/a.jpg.png", "x.png"):
        output.write(path)
    output.write(os.fsdecode(b"masks/\xff.png"))
    assert verify(output) == []


@pytest.mark.parametrize(
    "image",
    [
        "a.png",
        "a.overlay.jpg",
        "a.confidence",
        "a.confidence.png",
        "a~01234567.jpg",
        f"a~{'0' * 16}",
        f"{LONG}.jpg",
        f"{LONG}/{LONG}~{'0' * 16}~{'0' * 16}",
        f"{'a' * 210}~{'0' * 16}.jpg",
        f"{'x' * 251}",
        "A.JPG",
        "Straße/İ.jpg",
    ],
)
def test_what_stands_beside_a_mask_of_any_name_shares_its_name(image):
    mask = names.mask_path("masks-x", image)
    shared = {shared_name(mask), *(shared_name(names.beside(mask, o)) for o in names.BESIDE)}
    assert len(shared) == 1


def test_files_beside_masks_of_any_name_are_no_orphans(output):
    images = ("a.overlay.jpg", "a", "a.confidence", f"{LONG}~{'0' * 16}", f"{LONG}.jpg", "%25.jpg")
    items = [output.segment(image, seed) for seed, image in enumerate(images)]
    for item in items:
        output.write(names.beside(item.planned.mask, "overlay"))
        output.write(names.beside(item.planned.mask, "confidence"))
    output.commit("one", *items)
    assert verify(output) == []


@pytest.mark.parametrize("folder", ["statistics", "failures"])
def test_a_file_of_rows_that_cannot_be_read_is_found(output, photos, folder):
    planned = photos[0].planned
    failed = replace(planned, ref=replace(planned.ref, image="x.jpg"))
    failure = Failure(failed, "decode", "DecodeError", "empty")
    output.commit("one", *photos[:2], failures=(failure,))
    os.truncate(output / folder / "one.parquet", 100)
    finding = verify_one(output)
    assert (finding.kind, finding.path) == (FILE_UNREADABLE, f"{folder}/one.parquet")
    assert finding.version and finding.message


def test_everything_that_is_wrong_is_found_at_once(output, photos):
    (output / photos[0].planned.mask).unlink()
    os.truncate(output / photos[1].planned.mask, 50)
    shutil.copy(output / photos[2].planned.mask, output / photos[3].planned.mask)
    output.write("masks/foreign.png")
    output.write("failures/one.parquet")
    output.commit("three", output.segment("lund/c.jpg", 2), run_id="run2")
    wrong = output.segment("lund/e.jpg", 6)
    output.commit("four", replace(wrong, height=7))
    assert [(f.kind, f.image or f.path) for f in verify(output)] == [
        (FILE_UNREADABLE, "failures/one.parquet"),
        (MASK_DAMAGED, "lund/b.jpg"),
        (MASK_DIFFERS, "lund/d.jpg"),
        (MASK_MISSING, "lund/a.jpg"),
        (MASK_ORPHAN, "masks/foreign.png"),
        (ROW_DOUBLED, "lund/c.jpg"),
        (ROW_WRONG, "lund/e.jpg"),
    ]


def test_while_rows_cannot_be_read_no_mask_is_called_an_orphan(output, photos):
    os.truncate(output / "statistics" / "one.parquet", 100)
    (output / photos[2].planned.mask).unlink()
    output.write("masks/foreign.png")
    assert Counter(f.kind for f in verify(output)) == {FILE_UNREADABLE: 1, MASK_MISSING: 1}


def test_what_was_found_before_goes_when_all_is_whole_again(output, photos):
    output.write("masks/foreign.png")
    assert verify_one(output).kind == MASK_ORPHAN
    (output / "masks/foreign.png").unlink()
    assert verify(output) == []
    assert not (output / "findings.parquet").exists()


def test_a_summary_that_differs_from_the_rows_is_noted(output):
    assert summary_note(str(output), {output.MODEL: 3}) == ""
    output.write("runs/1.json", b'{"model": "other@0"}')
    output.write("runs/2.json", f'{{"model": "{output.MODEL}"}}'.encode())
    output.write("summary.json", b'{"images": {"done": 3}}')
    assert summary_note(str(output), {output.MODEL: 3, "other@0": 5}) == ""
    assert "counts 3 images of tiny@0123456789ab, there are 2" in summary_note(
        str(output), {output.MODEL: 2}
    )
    output.write("summary.json", b"[")
    assert summary_note(str(output), {output.MODEL: 2}) == ""
