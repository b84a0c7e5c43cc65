"""Masks against labels: names, counts and what is wrong, without and within a pipeline."""

import io
import os
import subprocess
import sys
import tarfile
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pytest
import webdataset
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from PIL import Image

from models.classes import IGNORE, ClassTable
from models.evaluation import Counts, count_pixels
from models.objects import ObjectCounts
from transforms import EvaluateMasks
from transforms.checking.evaluating import (
    SHOWN,
    Evaluation,
    Findings,
    compare,
    evaluate_label,
    is_mask,
    label_of,
    list_labels,
    write_evaluation,
)
from transforms.flow.records import ImageRef
from transforms.inputs import listing
from transforms.output import names

CLASSES = ClassTable.of([("Road", (1, 0, 0)), ("Sky", (2, 0, 0)), ("Tram", (3, 0, 0))])


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def encoded(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def masks_in(*specs) -> list[ImageRef]:
    found = [
        m for spec in specs for f in listing.list_input(str(spec)) for m in listing.list_members(f)
    ]
    return [item for item in found if isinstance(item, ImageRef)]


@pytest.fixture
def pairs(tmp_path):
    """Labels of four photos in `labels`, masks of them in `masks`, and both as arrays by name."""
    random = np.random.default_rng(0)
    made = {}
    for name in "abcd":
        label, mask = random.integers(0, 3, (2, 12, 16)).astype(np.uint8)
        label[0], mask[:, 0] = IGNORE, IGNORE
        save(tmp_path / "labels" / f"{name}.png", label)
        save(tmp_path / "masks" / f"{name}.png", mask)
        made[name] = label, mask
    return made


@pytest.fixture
def evaluate(tmp_path):
    """A function that evaluates masks in a pipeline against the labels in `labels`."""

    def run(*specs) -> Evaluation:
        result = tmp_path / "evaluation.json"
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            (
                pipeline
                | beam.Create([str(spec) for spec in specs])
                | EvaluateMasks(str(tmp_path / "labels"), len(CLASSES))
                | beam.Map(write_evaluation, str(result.parent), result.name)
            )
        return Evaluation.from_json(result.read_text())

    return run


def expected(pairs) -> Counts:
    counts = [count_pixels(label, mask, 3) for label, mask in pairs.values()]
    return sum(counts, Counts.nothing(3))


def assert_equal(counts: Counts, other: Counts) -> None:
    np.testing.assert_array_equal(counts.confusion, other.confusion)
    np.testing.assert_array_equal(counts.border_confusion, other.border_confusion)
    assert counts.images == other.images


def test_labels_are_the_png_files_of_a_splits_folder(tmp_path):
    folder = tmp_path / "valannot"
    (folder / "folder.png").mkdir(parents=True)
    for name in ("b.png", "a.png", ".hidden.png", "notes.txt"):
        (folder / name).touch()
    assert list_labels(str(folder)) == ["a.png", "b.png"]


def test_a_folder_without_labels_is_named(tmp_path):
    with pytest.raises(ValueError, match="valannot: no such folder"):
        list_labels(str(tmp_path / "valannot"))
    with pytest.raises(ValueError, match="holds no label"):
        list_labels(str(tmp_path))


@pytest.mark.parametrize(
    ("mask", "label"),
    [
        ("01.png", "01.png"),
        ("01.jpg.png", "01.png"),
        ("lund/north/01.png.PNG", "01.png"),
        ("01", "01.png"),
        ("two.png.png", "two.png.png"),
        ("two.png.jpg.png", "two.png.png"),
        ("50%25.png", "50%.png"),
        ("50%2525.png.png", "50%.png"),
        ("..png", None),
        ("..%2Flabels%2F01.png", None),
        ("folder.png", None),
        ("02.png", None),
        ("01.tar", None),
    ],
)
def test_a_mask_belongs_to_the_label_of_its_name(tmp_path, mask, label):
    folder = tmp_path / "labels"
    (folder / "folder.png").mkdir(parents=True)
    for name in ("01.png", "two.png", "two.png.png", "50%.png"):
        (folder / name).touch()
    assert label_of(mask, list_labels(str(folder))) == label


@pytest.mark.parametrize("photo", ["01.jpg", "01.confidence.png", "x" * 250 + ".jpg"])
def test_what_stands_beside_masks_is_no_mask(photo):
    def ref(path: str) -> ImageRef:
        return ImageRef(path, path, path, "", ".")

    mask = names.mask_path("masks", photo)
    assert is_mask(ref(mask))
    assert not is_mask(ref(names.beside(mask, "overlay")))
    assert not is_mask(ref(names.beside(mask, "confidence")))


def test_findings_keep_the_first_few_cases_in_whatever_order_they_come():
    cases = [f"case {number}" for number in range(SHOWN + 2)]
    forward = sum(map(Findings.of, cases), Findings())
    backward = sum(map(Findings.of, reversed(cases)), Findings())
    assert forward == backward == Findings.of(*cases)
    assert forward.number == SHOWN + 2 and forward.first == tuple(cases[:SHOWN])


def test_masks_in_a_folder_are_compared_with_their_labels(pairs, evaluate, tmp_path):
    evaluation = evaluate(tmp_path / "masks")
    assert_equal(evaluation.counts, expected(pairs))
    metrics = evaluation.metrics(CLASSES)
    assert metrics.images == 4 and metrics.confusion[:, -1].sum() == 4 * 11


def test_masks_in_shards_are_compared_with_their_labels(pairs, evaluate, tmp_path):
    with webdataset.TarWriter(str(tmp_path / "ab.tar")) as writer:
        for name in "ab":
            writer.write({"__key__": f"lund/{name}", "png": encoded(pairs[name][1])})
    with tarfile.open(tmp_path / "cd.tar", "w") as archive:
        for name in "cd":
            archive.add(tmp_path / "masks" / f"{name}.png", f"{name}.jpg.png")
    evaluation = evaluate(tmp_path / "ab.tar", tmp_path / "cd.tar")
    assert_equal(evaluation.counts, expected(pairs))
    evaluation.metrics(CLASSES)


def test_names_of_any_bytes_find_their_labels(evaluate, tmp_path):
    label, mask = np.zeros((2, 4, 4), np.uint8)
    for name in (b"\xff", b"50%", b"new\nline", "é".encode()):
        save(tmp_path / "labels" / os.fsdecode(name + b".png"), label)
        written = names.mask_path("masks", names.image_name(os.fsdecode(name + b".jpg")))
        save(tmp_path / written, mask)
    evaluation = evaluate(tmp_path / "masks")
    assert evaluation.problems == evaluation.unmasked == Findings()
    assert evaluation.counts.images == 4


def test_labels_without_a_mask_are_counted_and_named(pairs, evaluate, tmp_path):
    evaluation = evaluate(tmp_path / "masks" / "b.png")
    assert evaluation.unmasked == Findings(3, ("a.png", "c.png", "d.png"))
    with pytest.raises(ValueError, match="^3 of 4 labels have no mask: a.png, c.png, d.png. Add"):
        evaluation.metrics(CLASSES)


def test_the_first_few_of_many_labels_without_a_mask_are_named(pairs, evaluate, tmp_path):
    save(tmp_path / "labels" / "e.png", pairs["a"][0])
    evaluation = evaluate(tmp_path / "masks" / "a.png")
    with pytest.raises(ValueError, match="4 of 5 labels .*: b.png, c.png, d.png and 1 more. Add"):
        evaluation.metrics(CLASSES)


def test_a_mask_given_twice_is_a_problem(pairs, evaluate, tmp_path):
    again = save(tmp_path / "more" / "a.jpg.png", pairs["a"][1])
    evaluation = evaluate(tmp_path / "masks", again, tmp_path / "masks" / "b.png")
    assert evaluation.problems.number == 2
    first, second = evaluation.problems.first
    assert first.startswith(f"{tmp_path}/masks/b.png: its label has a mask already, {tmp_path}")
    assert second.startswith(f"{again}: its label has a mask already, {tmp_path}/masks/a.png.")


def test_every_bad_mask_is_counted_and_the_first_told(pairs, evaluate, tmp_path):
    (tmp_path / "masks" / "b.png").write_bytes(b"not an image")
    save(tmp_path / "masks" / "c.png", np.zeros((12, 16, 3), np.uint8))
    save(tmp_path / "masks" / "x.png", pairs["a"][1])
    (tmp_path / "masks" / "empty.tar").touch()
    evaluation = evaluate(tmp_path / "masks")
    assert evaluation.counts.images == 2
    assert evaluation.problems.number == 4
    with pytest.raises(ValueError, match=r"b.png: no PNG image.* \(3 more masks cannot be"):
        evaluation.metrics(CLASSES)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "damaged image data"),
        (lambda path: path.write_bytes(b""), "no PNG image"),
        (lambda path: save(path, np.zeros((12, 16, 3), np.uint8)), "has mode RGB; expected"),
        (lambda path: save(path, np.zeros((16, 12), np.uint8)), "is 12x16, but its label is 16x12"),
        (lambda path: save(path, np.full((12, 16), 3, np.uint8)), r"holds \[3\]; expected class"),
        (lambda path: path.unlink(), "cannot be read: No such file"),
    ],
)
def test_a_bad_mask_is_told_with_its_path_and_what_is_wrong(pairs, tmp_path, damage, message):
    path = tmp_path / "masks" / "a.png"
    (ref,) = masks_in(path)
    damage(path)
    with pytest.raises(ValueError, match=f"^{path}: {message}"):
        compare(ref, str(tmp_path / "labels" / "a.png"), 3)


def test_a_bad_label_is_told_with_its_path(pairs, tmp_path):
    (ref,) = masks_in(tmp_path / "masks" / "a.png")
    label = save(tmp_path / "labels" / "a.png", np.full((12, 16), 9, np.uint8))
    with pytest.raises(ValueError, match=rf"^{label}: holds \[9\]; expected class ids 0..2"):
        compare(ref, str(label), 3)
    label.unlink()
    with pytest.raises(ValueError, match=f"^{label}: cannot be read: No such file"):
        compare(ref, str(label), 3)


def test_a_member_that_is_cut_short_is_told_with_its_shard(pairs, tmp_path):
    shard = tmp_path / "a.tar"
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(tmp_path / "masks" / "a.png", "a.png")
    shard.write_bytes(shard.read_bytes()[:600])
    evaluation = evaluate_label("a.png", masks_in(shard), str(tmp_path / "labels"), 3)
    (line,) = evaluation.problems.first
    assert line.startswith(f"{shard}#a.png: cut short:")


def test_problems_are_told_before_labels_that_have_no_mask():
    evaluation = Evaluation(Counts.nothing(3), Findings.of("x.png: bad"), Findings.of("x.png"))
    with pytest.raises(ValueError, match="^x.png: bad$"):
        evaluation.metrics(CLASSES)


def test_evaluations_come_back_from_text_as_they_were(pairs):
    counts = replace(expected(pairs), objects={1: ObjectCounts(4, 3, 2, 1)})
    evaluation = Evaluation(counts, Findings.of("b", "a"), Findings.of("c.png"))
    read = Evaluation.from_json(evaluation.to_json())
    assert_equal(read.counts, evaluation.counts)
    assert read.counts.objects == counts.objects
    assert (read.problems, read.unmasked) == (evaluation.problems, evaluation.unmasked)


def test_masks_are_evaluated_without_keras():
    program = "import sys, transforms.checking.evaluating; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
