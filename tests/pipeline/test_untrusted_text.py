"""Names of photos, groups, columns and classes are neither formulas nor orders to a terminal."""

import csv
import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from models.classes import ClassTable
from tests.made_models import make_model

ESCAPE = "\x1b[31m\x9b2J"
CLASSES = ["=HYPERLINK(1)", f"[/red]{ESCAPE}", "@Road $x_$"]
GROUPS = ["=1+1", "+2", "-3", "@4", f"a;=5{ESCAPE}", "'=6", "'s-Gravenhage"]
FORMULA = re.compile(r"(^|[;\t])[=+\-@]")
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    classes = ClassTable.of([(name, (9, 9, n)) for n, name in enumerate(CLASSES)])
    return make_model(tmp_path_factory.mktemp("models") / "named", classes=classes).path


@pytest.fixture
def manifest(tmp_path, make_photo):
    """Photos of such names, and of such groups and columns."""
    folder = tmp_path / "photos"
    rows = [["uri", "group", f"={ESCAPE}"]]
    for number, group in enumerate(GROUPS):
        make_photo(folder / f"={number}{ESCAPE}.jpg", seed=number)
        rows.append([f"={number}{ESCAPE}.jpg", group, f"=cmd{ESCAPE}"])
    (folder / f"=broken{ESCAPE}.jpg").write_bytes(b"no photo")
    rows.append([f"=broken{ESCAPE}.jpg", "=1+1", ""])
    with open(folder / "list.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return folder / "list.csv"


def cells(text: str) -> set[str]:
    return {cell for row in csv.reader(text.splitlines(keepends=True)) for cell in row}


def is_text(cell: str) -> bool:
    return not FORMULA.search(cell) or bool(re.fullmatch(r"-?[\d.e-]+", cell))


def test_no_cell_is_a_formula_and_nothing_printed_is_obeyed(citymask, manifest, output, model):
    result = citymask("run", manifest, "-o", output.path, "--model", model, "--verbose")
    assert result.exit_code == 0, result.output
    said = [result.output]
    next(manifest.parent.glob("=3*")).unlink()
    manifest.write_text("".join(x for x in manifest.open(newline="") if not x.startswith("=3")))
    said.append(citymask("run", manifest, "-o", output.path, "--model", model).output)
    assert "1 removed" in said[-1]
    for by in ("image", "group"):
        printed = citymask("indicators", output.path, "--by", by)
        assert printed.exit_code == 0
        said.append(printed.stdout)
        assert all(map(is_text, cells(printed.stdout)))
    for name in ("summary.csv", "removed.csv"):
        assert all(map(is_text, cells((output.path / name).read_text())))
    document = json.loads((output.path / "summary.json").read_text())
    assert [entry["name"] for entry in document["classes"]] == CLASSES
    assert set(GROUPS) - {GROUPS[4]} <= set(document["groups"])

    os.unlink(output.path / output.rows["mask"].iloc[0])
    for command in (["verify"], ["report"], ["export", "--format", "coco-panoptic"]):
        result = citymask(*command, output.path)
        said.append(result.output)
        assert result.exit_code == {"verify": 3, "report": 0, "export": 2}[command[0]]
    assert [text for text in said if OBEYED.search(text)] == []


def test_metrics_are_printed_and_written_without_formulas(citymask, tmp_path, model):
    data, masks = tmp_path / "data", tmp_path / "masks"
    labels = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) % 3)
    for folder in (data / "valannot", masks):
        folder.mkdir(parents=True)
        labels.save(folder / "a.png")
    lines = "".join(f'"{name}",{n},0,0\n' for n, name in enumerate(CLASSES))
    (data / "classes.csv").write_text(f"name,red,green,blue\n{lines}")
    table = tmp_path / "confusion.csv"
    result = citymask("evaluate", "--masks", masks, "--data", data, "--confusion", table)
    assert result.exit_code == 0, result.output
    assert "[/red]" in result.stdout and not OBEYED.search(result.stdout)
    assert all(map(is_text, cells(table.read_text())))


def test_a_message_about_a_file_is_not_obeyed(citymask, tmp_path):
    for arguments in (["verify", tmp_path / f"a{ESCAPE}"], ["nightly", tmp_path / f"a{ESCAPE}"]):
        result = citymask(*arguments)
        assert result.exit_code == 2
        assert "%1B[31m" in result.output and not OBEYED.search(result.output)
