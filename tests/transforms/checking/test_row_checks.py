"""Row checks: every kind of damage to a mask, a row or a file of rows is told, and nothing else."""

import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from transforms.checking.row_checks import (
    REQUIRED,
    Expected,
    check_file,
    why_unreadable,
)
from transforms.flow.records import ExtraColumn
from transforms.output.findings import MASK_DAMAGED, MASK_DIFFERS, MASK_MISSING, ROW_WRONG, Finding
from transforms.photos import mask_files
from transforms.photos.mask_files import check_chunks


def change(file, column, values):
    """Set a column of a Parquet file."""
    table = pq.read_table(file)
    position = table.schema.get_field_index(column)
    pq.write_table(table.set_column(position, column, pa.array(values)), file)


def flip(file, position):
    data = bytearray(file.read_bytes())
    data[position] ^= 0x10
    file.write_bytes(data)


def check_one(output, file) -> Finding | None:
    """What is wrong with the only row of a statistics file."""
    expected = {output.MODEL: Expected(output.CLASSES.palette())}
    (finding,) = check_file(str(file), str(output), set(), expected)
    return finding


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (lambda file, output: file.unlink(), MASK_MISSING, "no such file"),
        (lambda file, output: file.write_bytes(b""), MASK_DAMAGED, "no PNG image: 0 bytes"),
        (lambda file, output: os.truncate(file, 500), MASK_DAMAGED, "cut short"),
        (
            lambda file, output: os.truncate(file, file.stat().st_size - 12),
            MASK_DAMAGED,
            "cut short",
        ),
        (lambda file, output: flip(file, -20), MASK_DAMAGED, "wrong checksum of the chunk at byte"),
        (lambda file, output: flip(file, 100), MASK_DAMAGED, "wrong checksum of the chunk at byte"),
        (
            lambda file, output: Image.open(file).convert("RGB").save(file),
            MASK_DAMAGED,
            "has mode RGB, expected P",
        ),
        (
            lambda file, output: file.write_bytes(output.encoded_mask(1)),
            MASK_DIFFERS,
            "is 17x12, its row says 16x12",
        ),
        (
            lambda file, output: file.write_bytes(output.encoded_mask(2)),
            MASK_DIFFERS,
            "pixels of value 0, but pixels_sky of its row is",
        ),
        (
            lambda file, output: file.write_bytes(output.encoded_mask(0, bytes(768))),
            MASK_DIFFERS,
            "has other colours",
        ),
    ],
)
def test_a_damaged_mask_is_found_with_its_row(output, damage, kind, message):
    rows_file = output.commit("one", output.segment("lund/a.jpg"))
    file = output / "masks" / "lund" / "a.jpg.png"
    damage(file, output)
    finding = check_one(output, rows_file)
    assert (finding.kind, finding.path) == (kind, "masks/lund/a.jpg.png")
    assert (finding.image, finding.model, finding.run_id) == ("lund/a.jpg", output.MODEL, "run1")
    assert message in finding.message
    assert bool(finding.version) == file.exists()


def test_every_flipped_byte_of_a_mask_is_found(output):
    whole = output.encoded_mask(0)
    check_chunks(whole)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        with pytest.raises(ValueError):
            check_chunks(bytes(damaged))
    with pytest.raises(ValueError, match="1 bytes after the end"):
        check_chunks(whole + b"\0")


def test_pixels_without_a_class_are_found(output):
    file = output.commit("one", replace(output.segment("a.jpg"), pixels=(192, 0, 0)))
    pixels = np.zeros((12, 16), np.uint8)
    pixels[0, 0] = 255
    output.write("masks/a.jpg.png", mask_files.encode_mask(pixels, output.CLASSES.palette()))
    assert "191 pixels of value 0" in check_one(output, file).message


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
    file = output.commit("one", output.segment("lund/a.jpg"))
    for column, value in changed.items():
        change(file, column, [value])
    finding = check_one(output, file)
    assert (finding.kind, finding.path) == (ROW_WRONG, "statistics/one.parquet")
    assert (finding.image, finding.model, finding.run_id) == ("lund/a.jpg", output.MODEL, "run1")
    assert message in finding.message


def test_a_manifests_column_of_pixels_is_no_class(output):
    extra = (ExtraColumn("pixels_per_metre", "int64", 5),)
    file = output.commit("one", output.segment("a.jpg", extra=extra))
    assert check_one(output, file) is None


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
