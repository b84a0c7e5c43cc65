"""`citymask evaluate --masks`: masks against labels, and every mistake told in one line."""

import csv
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from models.classes import CAMVID, IGNORE
from tests.shard_files import write_photo_records

CONSOLE_SCRIPT = Path(sys.executable).with_name("citymask")


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Five labelled photos of the tiny model's classes, two of another size."""
    folder = tmp_path_factory.mktemp("labelled")
    rows = ["Sky,0,0,255", "Tree top,0,128,0", "Road,9,9,9"]
    (folder / "classes.csv").write_text("\n".join(["name,red,green,blue", *rows, ""]))
    random = np.random.default_rng(0)
    for index in range(5):
        size = (40, 56) if index < 3 else (64, 96)
        blocks = random.integers(0, 4, (8, 8)).astype(np.uint8)
        label = np.kron(blocks, np.ones((8, 12), np.uint8))[: size[0], : size[1]]
        photo = random.integers(0, 255, (*size, 3)).astype(np.uint8)
        save(folder / "val" / f"frame_{index}.png", photo)
        save(folder / "valannot" / f"frame_{index}.png", label)
    return folder


@pytest.fixture(scope="module")
def measured(citymask, labelled, tiny_model, tmp_path_factory):
    """What `evaluate --model` writes: the metrics, of objects as well, and the confusion matrix."""
    return evaluate(citymask, labelled, tmp_path_factory.mktemp("measured"), "--model", tiny_model)


@pytest.fixture(scope="module")
def masks(citymask, labelled, tiny_model, tmp_path_factory):
    """The masks that a run over the photos writes, overlays and confidence images beside them."""
    output = tmp_path_factory.mktemp("run")
    options = ["--output", output, "--model", tiny_model, "--overlay", "--confidence"]
    done = citymask("run", labelled / "val", *options)
    assert done.exit_code == 0, done.output
    assert len(list((output / "masks").iterdir())) == 15
    return output / "masks"


def evaluate(citymask, labelled, results, *arguments) -> tuple[dict, list[list[str]]]:
    files = ["--json", results / "metrics.json", "--confusion", results / "confusion.csv"]
    options = ["--split", "val", "--objects", "Road"]
    done = citymask("evaluate", "--data", labelled, *options, *arguments, *files)
    assert done.exit_code == 0, done.output
    assert (results / "confusion.png").is_file()
    with open(results / "confusion.csv", newline="") as lines:
        table = list(csv.reader(lines))
    return json.loads((results / "metrics.json").read_text()), table


def refusal(citymask, labelled, *arguments) -> str:
    """The one line that a refused evaluation prints."""
    done = citymask("evaluate", "--data", labelled, *arguments)
    assert done.exit_code == 2, done.output
    (line,) = done.output.splitlines()
    return line.removeprefix("Error: ")


def copied(masks: Path, folder: Path) -> Path:
    """The masks alone, under the names of their labels."""
    folder.mkdir()
    for mask in masks.glob("*.png.png"):
        (folder / mask.name.removesuffix(".png")).write_bytes(mask.read_bytes())
    return folder


def test_masks_of_a_run_give_the_metrics_of_their_model(
    citymask, labelled, masks, measured, tmp_path
):
    assert evaluate(citymask, labelled, tmp_path, "--masks", masks) == measured
    assert measured[0]["images"] == 5
    assert measured[0]["classes"][2]["objects"]["labelled"] > 5


@pytest.mark.parametrize("choice", [("--windows", "1"), ("--projection", "equirectangular")])
def test_a_model_is_measured_as_a_run_with_the_same_choice_segments(
    citymask, tiny_model, tmp_path, choice
):
    random = np.random.default_rng(1)
    for name in "ab":
        pixels = np.kron(random.integers(0, 255, (16, 32, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        save(tmp_path / "val" / f"{name}.png", pixels)
        save(tmp_path / "valannot" / f"{name}.png", random.integers(0, 3, (128, 256), np.uint8))
    rows = ["name,red,green,blue", "Sky,0,0,255", "Tree top,0,128,0", "Road,9,9,9", ""]
    (tmp_path / "classes.csv").write_text("\n".join(rows))
    options = ["--output", tmp_path / "out", "--model", tiny_model]
    done = citymask("run", tmp_path / "val", *options, *choice)
    assert done.exit_code == 0, done.output
    of_model = evaluate(citymask, tmp_path, tmp_path, "--model", tiny_model, *choice)
    assert evaluate(citymask, tmp_path, tmp_path, "--masks", tmp_path / "out" / "masks") == of_model
    assert evaluate(citymask, tmp_path, tmp_path, "--model", tiny_model) != of_model


def test_masks_in_a_tar_give_the_same_metrics(citymask, labelled, masks, measured, tmp_path):
    shard = tmp_path / "masks.tar"
    with tarfile.open(shard, "w") as archive:
        for mask in masks.glob("*.png.png"):
            archive.add(mask, f"lund/{mask.name.removesuffix('.png')}")
    assert evaluate(citymask, labelled, tmp_path, "--masks", shard) == measured


def test_masks_in_shards_of_several_kinds_give_the_same_metrics(
    citymask, labelled, masks, measured, tmp_path
):
    first, *others = sorted(masks.glob("*.png.png"))
    with webdataset.TarWriter(str(tmp_path / "first.tar")) as writer:
        writer.write({"__key__": first.name.removesuffix(".png.png"), "png": first.read_bytes()})
    write_photo_records(
        tmp_path / "others.tfrecord", {mask.name: mask.read_bytes() for mask in others}
    )
    given = ["--masks", tmp_path / "*.tar", "--masks", tmp_path / "others.tfrecord"]
    assert evaluate(citymask, labelled, tmp_path, *given) == measured


def test_masks_named_by_a_manifest_give_the_same_metrics(
    citymask, labelled, masks, measured, tmp_path
):
    manifest = tmp_path / "list.txt"
    manifest.write_text("".join(f"{mask}\n" for mask in masks.glob("*.png.png")))
    assert evaluate(citymask, labelled, tmp_path, "--masks", manifest) == measured


def test_workers_of_their_own_give_the_same_metrics(citymask, labelled, masks, measured, tmp_path):
    options = ["--direct_num_workers", 2, "--direct_running_mode", "multi_threading"]
    assert evaluate(citymask, labelled, tmp_path, "--masks", masks, *options) == measured


def test_pixels_without_a_class_in_the_mask_are_errors(citymask, labelled, tmp_path):
    right = wrong = 0
    for path in (labelled / "valannot").iterdir():
        label = np.array(Image.open(path))
        mask = np.where(label == 3, 0, label)
        mask[:20] = IGNORE
        save(tmp_path / "masks" / path.name, mask)
        right += np.count_nonzero(label[20:] != 3)
        wrong += np.count_nonzero(label[:20] != 3)
    metrics, table = evaluate(citymask, labelled, tmp_path, "--masks", tmp_path / "masks")
    assert metrics["pixel_accuracy"] == pytest.approx(right / (right + wrong))
    assert metrics["miou"] == pytest.approx(metrics["mean_class_accuracy"])
    assert table[0] == ["label", "Sky", "Tree top", "Road", "no class"]
    assert sum(int(row[-1]) for row in table[1:]) == wrong


def test_classes_are_camvids_without_a_class_table(citymask, tmp_path):
    label = np.arange(12, dtype=np.uint8).repeat(8).reshape(8, 12)
    save(tmp_path / "data" / "testannot" / "a.png", label)
    mask = save(tmp_path / "a.png", np.where(label == 11, IGNORE, label))
    done = citymask(
        *("evaluate", "--masks", mask, "--data", tmp_path / "data"),
        *("--split", "test", "--json", tmp_path / "metrics.json"),
    )
    assert done.exit_code == 0, done.output
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert [entry["name"] for entry in metrics["classes"]] == list(CAMVID.names)
    assert metrics["miou"] == 1
    assert "mIoU 1.0000" in done.output


def test_masks_and_model_exclude_each_other(citymask, labelled, masks):
    line = refusal(citymask, labelled, "--masks", masks, "--model", "default")
    assert line == "--masks and --model exclude each other: give the one to be measured"


def test_options_of_beam_go_with_masks_only(citymask, labelled):
    line = refusal(citymask, labelled, "--runner", "DirectRunner", "--direct_num_workers", 2)
    assert "direct_num_workers" in line and "--masks" in line


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "damaged image data"),
        (lambda path: path.write_text("no image"), "no PNG image"),
        (lambda path: save(path, np.zeros((40, 56, 3), np.uint8)), "has mode RGB; expected"),
        (lambda path: save(path, np.zeros((56, 40), np.uint8)), "is 40x56, but its label is 56x40"),
        (lambda path: save(path, np.full((40, 56), 3, np.uint8)), "holds [3]; expected class ids"),
    ],
)
def test_a_bad_mask_ends_with_one_line_and_exit_code_2(
    citymask, labelled, masks, tmp_path, damage, message
):
    folder = copied(masks, tmp_path / "masks")
    damage(folder / "frame_1.png")
    line = refusal(citymask, labelled, "--masks", folder)
    assert line.startswith(f"{folder}/frame_1.png: {message}")


def test_a_mask_without_a_label_is_named(citymask, labelled, masks, tmp_path):
    folder = copied(masks, tmp_path / "masks")
    (folder / "frame_1.png").rename(folder / "frame_9.png")
    line = refusal(citymask, labelled, "--masks", folder)
    assert line.startswith(f"{folder}/frame_9.png: has no label of its name in {labelled}/valannot")


def test_labels_without_a_mask_are_counted_and_named(citymask, labelled, masks):
    given = ["--masks", masks / "frame_[0-2]*.png", "--masks", masks / "frame_4.png.png"]
    line = refusal(citymask, labelled, *given)
    assert line.startswith("1 of 5 labels have no mask: frame_3.png. Add")


def test_a_mask_given_twice_is_named(citymask, labelled, masks):
    again = masks / "frame_1.png.png"
    line = refusal(citymask, labelled, "--masks", masks, "--masks", again)
    assert line.startswith(f"{again}: its label has a mask already")


def test_a_folder_without_masks_is_named(citymask, labelled, masks, tmp_path):
    overlays = tmp_path / "overlays"
    overlays.mkdir()
    for overlay in masks.glob("*.overlay.jpg"):
        (overlays / overlay.name).write_bytes(overlay.read_bytes())
    line = refusal(citymask, labelled, "--masks", masks, "--masks", overlays)
    assert line.startswith(f"{overlays}: no masks found; expected")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--masks", "nowhere"], "nowhere: no such file or directory"),
        (["--masks", "MASKS", "--split", "test"], "testannot: no such folder"),
        (["--masks", "MASKS", "--objects", "Lesion"], "objects of Lesion: no such class; expected"),
        (["--masks", "MASKS", "--runner", "NoRunner"], "Beam: "),
    ],
)
def test_other_mistakes_end_with_one_line_and_exit_code_2(
    citymask, labelled, masks, arguments, message
):
    given = [masks if argument == "MASKS" else argument for argument in arguments]
    assert message in refusal(citymask, labelled, *given)


def test_the_console_script_says_it_in_one_line_from_other_processes_too(labelled, masks, tmp_path):
    folder = copied(masks, tmp_path / "masks")
    save(folder / "frame_1.png", np.full((40, 56), 7, np.uint8))
    options = ["--direct_num_workers", "2", "--direct_running_mode", "multi_processing"]
    done = subprocess.run(
        [CONSOLE_SCRIPT, "evaluate", "--data", labelled, "--masks", folder, *options],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "PATH": f"{CONSOLE_SCRIPT.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"Error: {folder}/frame_1.png: holds [7]")
    assert "Traceback" not in done.stderr
