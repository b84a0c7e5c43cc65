"""Verifying: every kind of damage to an output folder is found, and nothing else is."""

import os
import shutil
from collections import Counter
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from PIL import Image

from models.classes import ClassTable
from models.packages import load_package
from transforms import masks, names, rows
from transforms.findings import (
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
from transforms.records import (
    UNKNOWN_CAPTURE,
    ExtraColumn,
    Failure,
    ImageRef,
    Segmented,
    UnitResult,
)
from transforms.verifying import (
    REQUIRED,
    VerifyOutput,
    check_chunks,
    check_file,
    settle,
    shared_name,
    summary_note,
    why_unreadable,
)

CLASSES = ClassTable.of([("Sky", (0, 0, 255)), ("Tree top", (0, 128, 0)), ("Road", (9, 9, 9))])
MODEL = "tiny@0123456789ab"
LABEL_IDS = np.array([7, 3, 200], np.uint8)
LONG = "ü" * 120
"""A name that is cut."""


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def photos(output):
    """Four photos that are done, two in a file each, with all that may stand beside their masks."""
    images = [segment(output, f"lund/{name}.jpg", seed) for seed, name in enumerate("abcd")]
    for item in images:
        write(output, names.overlay_path(item.ref.mask))
        write(output, names.confidence_path(item.ref.mask))
    commit(output, "one", *images[:2])
    commit(output, "two", *images[2:])
    return images


def made_mask(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (12, 16 + seed % 2)).astype(np.uint8)


def segment(output, image, seed=0, *, folder="masks", palette=None, values=None, extra=()):
    """Write a mask; return what becomes its row."""
    mask = made_mask(seed)
    path = names.mask_path(folder, image)
    pixels = mask if values is None else values[mask]
    write(output, path, masks.encode_mask(pixels, palette or CLASSES.palette()))
    ref = ImageRef(image, f"/a/{image}", f"/a/{image}", "10-1", ".", path, extra=extra)
    counts = tuple(np.bincount(mask.ravel(), minlength=3).tolist())
    return Segmented(ref, mask.shape[1], mask.shape[0], UNKNOWN_CAPTURE, counts)


def write(output, path, data=b"not looked at"):
    (output / path).parent.mkdir(parents=True, exist_ok=True)
    (output / path).write_bytes(data)


def commit(output, unit_id, *items, model=MODEL, run_id="run1", failures=()):
    rows.commit(str(output), UnitResult(unit_id, items, failures), CLASSES, model, run_id)
    return output / "statistics" / f"{unit_id}.parquet"


def change(file, column, values):
    """Set a column of a Parquet file."""
    table = pq.read_table(file)
    position = table.schema.get_field_index(column)
    pq.write_table(table.set_column(position, column, pa.array(values)), file)


def flip(file, position):
    data = bytearray(file.read_bytes())
    data[position] ^= 0x10
    file.write_bytes(data)


def verify(output) -> list[Finding]:
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        found = pipeline | VerifyOutput(str(output)) | beam.combiners.ToList()
        found | beam.Map(settle, str(output))
    return read_findings(str(output))


def check_one(output, file) -> Finding:
    """What is wrong with the only row of a statistics file, without a pipeline."""
    (finding,) = check_file(str(file), str(output), set(), {MODEL: CLASSES.palette()})
    return finding


def verify_one(output) -> Finding:
    (finding,) = verify(output)
    return finding


def test_whole_outputs_have_no_findings(output, photos):
    assert verify(output) == []


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (lambda file: file.unlink(), MASK_MISSING, "no such file"),
        (lambda file: file.write_bytes(b""), MASK_DAMAGED, "no PNG image: 0 bytes"),
        (lambda file: os.truncate(file, 500), MASK_DAMAGED, "cut short"),
        (lambda file: os.truncate(file, file.stat().st_size - 12), MASK_DAMAGED, "cut short"),
        (lambda file: flip(file, -20), MASK_DAMAGED, "wrong checksum of the chunk at byte"),
        (lambda file: flip(file, 100), MASK_DAMAGED, "wrong checksum of the chunk at byte"),
        (
            lambda file: Image.open(file).convert("RGB").save(file),
            MASK_DAMAGED,
            "has mode RGB, expected P",
        ),
        (
            lambda file: file.write_bytes(masks.encode_mask(made_mask(1), CLASSES.palette())),
            MASK_DIFFERS,
            "is 17x12, its row says 16x12",
        ),
        (
            lambda file: file.write_bytes(masks.encode_mask(made_mask(2), CLASSES.palette())),
            MASK_DIFFERS,
            "pixels of value 0, but pixels_sky of its row is",
        ),
        (
            lambda file: file.write_bytes(masks.encode_mask(made_mask(0), bytes(768))),
            MASK_DIFFERS,
            "has other colours",
        ),
    ],
)
def test_a_damaged_mask_is_found_with_its_row(output, damage, kind, message):
    rows_file = commit(output, "one", segment(output, "lund/a.jpg"))
    file = output / "masks" / "lund" / "a.jpg.png"
    damage(file)
    finding = check_one(output, rows_file)
    assert (finding.kind, finding.path) == (kind, "masks/lund/a.jpg.png")
    assert (finding.image, finding.model, finding.run_id) == ("lund/a.jpg", MODEL, "run1")
    assert message in finding.message
    assert bool(finding.version) == file.exists()


def test_every_flipped_byte_of_a_mask_is_found():
    whole = masks.encode_mask(made_mask(0), CLASSES.palette())
    check_chunks(whole)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        with pytest.raises(ValueError):
            check_chunks(bytes(damaged))
    with pytest.raises(ValueError, match="1 bytes after the end"):
        check_chunks(whole + b"\0")


def test_masks_that_changed_places_are_both_found(output, photos):
    first, second = (output / photos[number].ref.mask for number in (0, 2))
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    assert [(f.kind, f.image) for f in verify(output)] == [
        (MASK_DIFFERS, "lund/a.jpg"),
        (MASK_DIFFERS, "lund/c.jpg"),
    ]


def test_pixels_without_a_class_are_found(output):
    file = commit(output, "one", replace(segment(output, "a.jpg"), pixels=(192, 0, 0)))
    pixels = np.zeros((12, 16), np.uint8)
    pixels[0, 0] = 255
    write(output, "masks/a.jpg.png", masks.encode_mask(pixels, CLASSES.palette()))
    assert "191 pixels of value 0" in check_one(output, file).message


def test_masks_of_label_ids_are_compared_by_their_counts(output):
    values, model = LABEL_IDS, f"{MODEL}+label_ids"
    palette = CLASSES.palette(values.tolist())
    items = [segment(output, f"{n}.jpg", n, palette=palette, values=values) for n in (0, 2)]
    commit(output, "one", *items, model=model)
    assert verify(output) == []
    write(output, "masks/0.jpg.png", (output / "masks/2.jpg.png").read_bytes())
    finding = verify_one(output)
    assert (finding.kind, finding.image) == (MASK_DIFFERS, "0.jpg")


def test_a_shipped_model_knows_its_colours(output):
    package = load_package("default")
    commit(output, "one", segment(output, "a.jpg"), model=package.model_id)
    assert "other colours" in verify_one(output).message
    commit(output, "one", segment(output, "a.jpg", palette=package.palette), model=package.model_id)
    assert verify(output) == []


def test_each_model_has_colours_of_its_own(output, photos):
    folder, palette = "masks-other@ba9876543210", bytes(range(256)) * 3
    item = segment(output, "lund/a.jpg", 5, folder=folder, palette=palette)
    commit(output, "other", item, model="other@ba9876543210")
    assert verify(output) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pixels_road": 0}, "its pixels per class add up to"),
        ({"width": 8}, "expected 8 x 12"),
        ({"width": 0, "pixels_sky": 0, "pixels_tree_top": 0, "pixels_road": 0}, "expected 0 x 12"),
        ({"pixels_sky": -1, "pixels_tree_top": 193, "pixels_road": 0}, "pixels_sky is -1"),
        ({"pixels_sky": None}, "without pixels_sky"),
        ({"group": None}, "without group"),
        ({"version": None}, "without version"),
    ],
)
def test_a_wrong_row_is_found(output, changed, message):
    file = commit(output, "one", segment(output, "lund/a.jpg"))
    for column, value in changed.items():
        change(file, column, [value])
    finding = check_one(output, file)
    assert (finding.kind, finding.path) == (ROW_WRONG, "statistics/one.parquet")
    assert (finding.image, finding.model, finding.run_id) == ("lund/a.jpg", MODEL, "run1")
    assert message in finding.message


def test_a_manifests_column_of_pixels_is_no_class(output):
    extra = (ExtraColumn("pixels_per_metre", "int64", 5),)
    commit(output, "one", segment(output, "a.jpg", extra=extra))
    assert verify(output) == []


def test_of_two_rows_of_an_image_the_older_is_doubled(output, photos):
    commit(output, "three", segment(output, "lund/a.jpg", 4), run_id="run2")
    finding = verify_one(output)
    assert (finding.kind, finding.path) == (ROW_DOUBLED, "statistics/one.parquet")
    assert (finding.image, finding.model, finding.run_id) == ("lund/a.jpg", MODEL, "run1")


def test_a_file_of_rows_copied_beside_itself_doubles_them(output, photos):
    data = (output / "statistics/one.parquet").read_bytes()
    write(output, "statistics/copy.parquet", data)
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
    write(tmp_path, "elsewhere/photo.png")
    (output / "masks" / "link").symlink_to(tmp_path / "elsewhere")
    for path in ("masks/README.txt", "masks/x.jpg", "masks-backup/lund/a.jpg.png", "x.png"):
        write(output, path)
    write(output, os.fsdecode(b"masks/\xff.png"))
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
    shared = {shared_name(f(mask)) for f in (str, names.overlay_path, names.confidence_path)}
    assert len(shared) == 1


def test_files_beside_masks_of_any_name_are_no_orphans(output):
    images = ("a.overlay.jpg", "a", "a.confidence", f"{LONG}~{'0' * 16}", f"{LONG}.jpg", "%25.jpg")
    items = [segment(output, image, seed) for seed, image in enumerate(images)]
    for item in items:
        write(output, names.overlay_path(item.ref.mask))
        write(output, names.confidence_path(item.ref.mask))
    commit(output, "one", *items)
    assert verify(output) == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: os.truncate(file, file.stat().st_size // 2), "Parquet"),
        (lambda file: file.write_bytes(b""), "0 bytes"),
        (lambda file: flip(file, -6), ""),
        (lambda file: change(file, "image", [None, "a"]), "1 rows without image"),
        (lambda file: change(file, "width", ["wide", "8"]), "wide"),
        (
            lambda file: pq.write_table(pq.read_table(file).drop_columns(["uri", "mask"]), file),
            "without the column mask, uri",
        ),
    ],
)
def test_a_file_of_rows_that_cannot_be_read_says_why(output, photos, damage, reason):
    file = output / "statistics" / "one.parquet"
    assert why_unreadable(str(file), REQUIRED["statistics"]) == ""
    damage(file)
    why = why_unreadable(str(file), REQUIRED["statistics"])
    assert why and reason in why and "\n" not in why


@pytest.mark.parametrize("folder", ["statistics", "failures"])
def test_a_file_of_rows_that_cannot_be_read_is_found(output, photos, folder):
    failure = Failure(replace(photos[0].ref, image="x.jpg"), "decode", "DecodeError", "empty")
    commit(output, "one", *photos[:2], failures=(failure,))
    os.truncate(output / folder / "one.parquet", 100)
    finding = verify_one(output)
    assert (finding.kind, finding.path) == (FILE_UNREADABLE, f"{folder}/one.parquet")
    assert finding.version and finding.message


def test_everything_that_is_wrong_is_found_at_once(output, photos):
    (output / photos[0].ref.mask).unlink()
    os.truncate(output / photos[1].ref.mask, 50)
    shutil.copy(output / photos[2].ref.mask, output / photos[3].ref.mask)
    write(output, "masks/foreign.png")
    write(output, "failures/one.parquet")
    commit(output, "three", segment(output, "lund/c.jpg", 2), run_id="run2")
    wrong = segment(output, "lund/e.jpg", 6)
    commit(output, "four", replace(wrong, height=7))
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
    (output / photos[2].ref.mask).unlink()
    write(output, "masks/foreign.png")
    assert Counter(f.kind for f in verify(output)) == {FILE_UNREADABLE: 1, MASK_MISSING: 1}


def test_what_was_found_before_goes_when_all_is_whole_again(output, photos):
    write(output, "masks/foreign.png")
    assert verify_one(output).kind == MASK_ORPHAN
    (output / "masks/foreign.png").unlink()
    assert verify(output) == []
    assert not (output / "findings.parquet").exists()


def test_a_summary_that_differs_from_the_rows_is_noted(output):
    assert summary_note(str(output), {MODEL: 3}) == ""
    write(output, "runs/1.json", b'{"model": "other@0"}')
    write(output, "runs/2.json", f'{{"model": "{MODEL}"}}'.encode())
    write(output, "summary.json", b'{"images": {"done": 3}}')
    assert summary_note(str(output), {MODEL: 3, "other@0": 5}) == ""
    assert "counts 3 images of tiny@0123456789ab, there are 2" in summary_note(
        str(output), {MODEL: 2}
    )
    write(output, "summary.json", b"[")
    assert summary_note(str(output), {MODEL: 2}) == ""
