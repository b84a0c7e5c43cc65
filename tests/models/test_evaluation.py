import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.classes import IGNORE, ClassTable
from models.datasets import list_split
from models.evaluation import confusion_matrix, evaluate, measure, metrics_from_confusion
from models.packages import load_package

CAMVID_DATA = Path(__file__).parents[3] / "shared" / "data" / "camvid"
CLASSES = ClassTable.of([("Road", (1, 0, 0)), ("Sky", (2, 0, 0)), ("Tram", (3, 0, 0))])


def test_metrics_are_those_of_counting_pixel_by_pixel():
    random = np.random.default_rng(0)
    label = random.integers(0, 3, (20, 30)).astype(np.uint8)
    mask = np.where(random.random(label.shape) < 0.6, label, random.integers(0, 3, label.shape))
    label[random.random(label.shape) < 0.1] = IGNORE
    metrics = metrics_from_confusion(confusion_matrix(label, mask, 3), CLASSES.names, 1)
    pairs = [(t, p) for t, p in zip(label.ravel(), mask.ravel(), strict=True) if t != IGNORE]
    ious, recalls = [], []
    for c in range(3):
        hits = sum(t == p == c for t, p in pairs)
        ious.append(hits / sum(c in (t, p) for t, p in pairs))
        recalls.append(hits / sum(t == c for t, _ in pairs))
    assert metrics.ious == pytest.approx(ious)
    assert metrics.miou == pytest.approx(np.mean(ious))
    assert metrics.mean_class_accuracy == pytest.approx(np.mean(recalls))
    assert metrics.pixel_accuracy == pytest.approx(sum(t == p for t, p in pairs) / len(pairs))


def test_class_that_occurs_nowhere_has_no_iou_and_does_not_lower_the_mean():
    metrics = metrics_from_confusion(np.diag([5, 3, 0]), CLASSES.names, 1)
    assert metrics.ious == (1, 1, None)
    assert metrics.miou == metrics.mean_class_accuracy == metrics.pixel_accuracy == 1


def test_labels_without_any_class_are_an_error():
    label = np.full((2, 2), IGNORE, np.uint8)
    with pytest.raises(ValueError, match="no pixel with a class"):
        metrics_from_confusion(confusion_matrix(label, label * 0, 3), CLASSES.names, 1)


def test_photos_are_measured_at_the_size_of_their_labels(tmp_path):
    """A network that tells red from green at stride 4 makes few errors on a 70 x 50 photo."""
    for folder in ("val", "valannot"):
        (tmp_path / folder).mkdir()
    label = np.zeros((50, 70), np.uint8)
    label[:, 35:] = 1
    pixels = np.zeros((50, 70, 3), np.uint8)
    pixels[:, :35, 0] = pixels[:, 35:, 1] = 255
    label[:10] = len(CLASSES)
    Image.fromarray(pixels).save(tmp_path / "val" / "a.png")
    Image.fromarray(label).save(tmp_path / "valannot" / "a.png")

    def predict(images):
        assert images.dtype == np.uint8 and images.shape == (1, 96, 128, 3)
        logits = images[:, 2::4, 2::4].astype(np.float32)
        logits[..., 2] = -1
        return logits

    photos = list_split(tmp_path, "val", len(CLASSES))
    metrics = measure(predict, photos, CLASSES, 96, 128)
    assert metrics.pixel_accuracy > 0.98
    assert metrics.ious[2] is None and metrics.images == 1
    written = json.loads(json.dumps(metrics.to_dict()))
    assert written["miou"] == metrics.miou
    assert written["classes"][1] == {"name": "Sky", "iou": metrics.ious[1]}


@pytest.mark.skipif(not CAMVID_DATA.is_dir(), reason="CamVid is not here")
def test_shipped_model_is_as_good_as_its_package_says():
    package = load_package("default")
    measured = evaluate(package, CAMVID_DATA, "val")
    assert measured.miou == pytest.approx(package.metrics["miou"], abs=0.005)
    assert measured.miou > 0.55
    assert measured.images == package.metrics["images"] == 101
