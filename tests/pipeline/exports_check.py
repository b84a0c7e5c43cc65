"""Exports, opened by Datumaro, FiftyOne and panopticapi: `make test-exports` sets these up.

They have an environment of their own; `CITYMASK` names the command to be tested. Datumaro is what
CVAT imports with. FiftyOne's importer is run without its database.
"""

import json
import os
import subprocess
from pathlib import Path

import datumaro
import numpy as np
import pytest
from fiftyone.utils.data.importers import ImageSegmentationDirectoryImporter
from panopticapi.evaluation import pq_compute_single_core
from PIL import Image

PHOTOS = ("lund/01.jpg", "lund/ü b.png", "50%.jpg", "a/b/c.jpg")
STEMS = {"lund/01", "lund/ü b", "50%25", "a/b/c"}


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """The output folder of a run, with its exports."""
    folder = tmp_path_factory.mktemp("exports")
    for seed, name in enumerate(PHOTOS):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (48 + seed, 64, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    out = folder / "out"
    for arguments in (
        ("run", folder / "photos", "--output", out),
        ("export", out, "--format", "cvat", "--format", "fiftyone", "--format", "coco-panoptic"),
    ):
        subprocess.run([os.environ["CITYMASK"], *arguments], check=True)
    return out


@pytest.fixture(scope="module")
def card(out) -> dict:
    (file,) = (out / "models").iterdir()
    return json.loads(file.read_text(encoding="utf-8"))


def mask(out: Path, stem: str) -> np.ndarray:
    """The class ids of a photo."""
    (path,) = (p for p in (out / "masks").rglob("*.png") if p.stem.rpartition(".")[0] == stem)
    return np.asarray(Image.open(path))


def test_datumaro_imports_cvat(out, card):
    dataset = datumaro.Dataset.import_from(str(out / "exports/cvat"), "voc_segmentation")
    names = [label.name for label in dataset.categories()[datumaro.AnnotationType.label]]
    assert names == ["background", *(entry["name"] for entry in card["classes"])]
    assert {item.id for item in dataset} == STEMS
    for item in dataset:
        ids = mask(out, item.id.rpartition("/")[2])
        found = {annotation.label - 1: annotation.image for annotation in item.annotations}
        assert found.keys() == set(np.unique(ids).tolist())
        assert all((found[class_id] == (ids == class_id)).all() for class_id in found)


def test_fiftyone_imports_its_folder(out):
    folder = out / "exports/fiftyone"
    photos = {str(out.parent / "photos" / name) for name in PHOTOS}
    with ImageSegmentationDirectoryImporter(str(folder), data_path="data.json") as importer:
        found = {photo: label.get_mask() for photo, _, label in importer}
    assert found.keys() == photos
    for photo, labels in found.items():
        stem = Path(photo).stem.replace("%", "%25")
        assert (labels == mask(out, stem) + 1).all()


def test_panopticapi_finds_no_difference(out):
    """Its summary of things and stuff divides by zero where there are no things."""
    folder = out / "exports/coco-panoptic"
    document = json.loads((folder / "panoptic.json").read_text(encoding="utf-8"))
    categories = {category["id"]: category for category in document["categories"]}
    pairs = [(annotation, annotation) for annotation in document["annotations"]]
    images = str(folder / "panoptic")
    compared = pq_compute_single_core(0, pairs, images, images, categories)
    quality, _ = compared.pq_average(categories, isthing=None)
    shown = {int(c) for path in out.glob("masks/**/*.png") for c in np.unique(Image.open(path))}
    assert (quality["pq"], quality["n"]) == (1, len(shown))
