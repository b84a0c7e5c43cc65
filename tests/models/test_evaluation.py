import json

import numpy as np
import pytest
import sklearn.metrics
from PIL import Image

from models.classes import IGNORE, ClassTable
from models.datasets import list_split
from models.evaluation import Metrics, confusion_matrix, evaluate, measure, near_border
from models.packages import load_package

CLASSES = ClassTable.of([("Road", (1, 0, 0)), ("Sky", (2, 0, 0)), ("Tram", (3, 0, 0))])


def metrics_of(confusion):
    return Metrics(CLASSES.names, confusion, np.zeros_like(confusion), 1)


def test_metrics_are_those_of_counting_pixel_by_pixel():
    random = np.random.default_rng(0)
    label = random.integers(0, 3, (20, 30)).astype(np.uint8)
    mask = np.where(random.random(label.shape) < 0.6, label, random.integers(0, 3, label.shape))
    label[random.random(label.shape) < 0.1] = IGNORE
    metrics = metrics_of(confusion_matrix(label, mask, 3))
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


def test_metrics_agree_with_scikit_learn():
    random = np.random.default_rng(1)
    label, mask = random.integers(0, 3, (2, 40, 50)).astype(np.uint8)
    label[:5] = IGNORE
    metrics = metrics_of(confusion_matrix(label, mask, 3))
    truth, found = label[label != IGNORE], mask[label != IGNORE]
    np.testing.assert_array_equal(metrics.confusion, sklearn.metrics.confusion_matrix(truth, found))
    assert metrics.ious == pytest.approx(sklearn.metrics.jaccard_score(truth, found, average=None))
    assert metrics.dices == pytest.approx(sklearn.metrics.f1_score(truth, found, average=None))
    assert metrics.pixel_accuracy == pytest.approx(sklearn.metrics.accuracy_score(truth, found))
    assert metrics.mean_class_accuracy == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(truth, found)
    )
    assert metrics.frequency_weighted_iou == pytest.approx(
        sklearn.metrics.jaccard_score(truth, found, average="weighted")
    )


def test_border_pixels_are_those_with_another_class_within_three_pixels():
    label = np.zeros((9, 20), np.uint8)
    label[:, 10:] = 1
    assert np.flatnonzero(near_border(label)[4]).tolist() == [7, 8, 9, 10, 11, 12]
    assert not near_border(np.full((9, 9), IGNORE, np.uint8)).any()


def test_confusion_is_written_as_a_table_and_a_chart(tmp_path):
    metrics = metrics_of(np.array([[7, 1, 0], [2, 5, 0], [0, 0, 4]]))
    metrics.write_confusion_csv(tmp_path / "confusion.csv")
    assert (tmp_path / "confusion.csv").read_text() == (
        "label,Road,Sky,Tram\nRoad,7,1,0\nSky,2,5,0\nTram,0,0,4\n"
    )
    metrics.write_confusion_chart(tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as chart:
        assert chart.format == "PNG" and chart.width > 300


def test_class_that_occurs_nowhere_has_no_iou_and_does_not_lower_the_mean():
    metrics = metrics_of(np.diag([5, 3, 0]))
    assert metrics.ious == (1, 1, None)
    assert metrics.miou == metrics.mean_class_accuracy == metrics.pixel_accuracy == 1


def test_labels_without_any_class_are_an_error():
    label = np.full((2, 2), IGNORE, np.uint8)
    with pytest.raises(ValueError, match="no pixel with a class"):
        metrics_of(confusion_matrix(label, label * 0, 3))


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
    assert written["classes"][1] == {
        "name": "Sky",
        "iou": metrics.ious[1],
        "dice": metrics.dices[1],
    }


def test_shipped_model_is_as_good_as_its_package_says(shared_data):
    package = load_package("default")
    measured = evaluate(package, shared_data / "camvid", "val")
    assert measured.miou == pytest.approx(package.metrics["miou"], abs=0.005)
    assert measured.miou > 0.55
    assert measured.images == package.metrics["images"] == 101
