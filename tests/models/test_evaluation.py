import copy
import json

import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as cityscapes  # noqa: N813
import numpy as np
import pytest
import sklearn.metrics
from PIL import Image

from models.classes import CAMVID, IGNORE, ClassTable
from models.evaluation import (
    Counts,
    Metrics,
    confusion_matrix,
    count_common,
    count_pixels,
    evaluate,
    measure,
    near_border,
)
from models.inputs import InputSize
from models.label_mappings import LabelMapping
from models.labelled_photos import list_split, read_photo
from models.labels import read_label
from models.meanings import Common, meanings
from models.packages import load_package
from models.segmenter import Segmenter

CLASSES = ClassTable.of([("Road", (1, 0, 0)), ("Sky", (2, 0, 0)), ("Tram", (3, 0, 0))])

SAME = Common.of(CLASSES, CLASSES)
CITYSCAPES = ClassTable.load("cityscapes")


def metrics_of(confusion, names=CLASSES.names):
    return Metrics(names, confusion, np.zeros_like(confusion), 1)


def without_misses(confusion):
    """A confusion matrix of masks in which every pixel has a class."""
    return np.pad(confusion, ((0, 0), (0, 1)))


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
    np.testing.assert_array_equal(
        metrics.confusion, without_misses(sklearn.metrics.confusion_matrix(truth, found))
    )
    assert metrics.ious == pytest.approx(sklearn.metrics.jaccard_score(truth, found, average=None))
    assert metrics.dices == pytest.approx(sklearn.metrics.f1_score(truth, found, average=None))
    assert metrics.pixel_accuracy == pytest.approx(sklearn.metrics.accuracy_score(truth, found))
    assert metrics.mean_class_accuracy == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(truth, found)
    )
    assert metrics.frequency_weighted_iou == pytest.approx(
        sklearn.metrics.jaccard_score(truth, found, average="weighted")
    )


def test_metrics_agree_with_the_scripts_of_cityscapes(tmp_path):
    """Value 255 in a mask is their label 0, "unlabeled": also a miss of the label's class."""
    evaluated = [label for label in cityscapes.labels if label.id >= 0 and not label.ignoreInEval]
    ids, names = [label.id for label in evaluated], tuple(label.name for label in evaluated)
    to_cityscapes = np.zeros(256, np.uint8)
    to_cityscapes[: len(ids)] = ids
    random = np.random.default_rng(2)
    counts, files = Counts.nothing(len(ids)), []
    for photo in range(2):
        label, mask = random.integers(0, len(ids) - 1, (2, 60, 80)).astype(np.uint8)
        mask = np.where(random.random(label.shape) < 0.5, label, mask)
        label[:7], mask[:, 70:] = IGNORE, IGNORE
        counts += count_pixels(label, mask, len(ids))
        files.append([tmp_path / f"{name}{photo}.png" for name in ("mask", "label")])
        for pixels, file in zip((mask, label), files[-1], strict=True):
            Image.fromarray(to_cityscapes[pixels]).save(file)
    settings = copy.copy(cityscapes.args)
    settings.evalInstLevelScore, settings.JSONOutput, settings.quiet = False, False, True
    theirs = cityscapes.evaluateImgLists(*map(list, zip(*files, strict=True)), settings)

    ours = metrics_of(counts.confusion, names)
    confusion = np.array(theirs["confMatrix"])[ids]
    np.testing.assert_array_equal(ours.confusion, confusion[:, [*ids, 0]])
    assert ours.confusion[:, -1].sum() == 2 * 53 * 10
    for name, iou in zip(names, ours.ious, strict=True):
        expected = np.nan if iou is None else iou
        assert theirs["classScores"][name] == pytest.approx(expected, nan_ok=True)
    assert ours.ious[-1] is None
    assert ours.miou == pytest.approx(theirs["averageScoreClasses"])


def test_pixels_without_a_class_in_the_mask_are_misses_of_the_class_in_the_label():
    label = np.uint8([[0, 0, 0, 0], [1, 1, IGNORE, IGNORE]])
    mask = np.uint8([[0, 0, IGNORE, 1], [1, 1, IGNORE, 0]])
    metrics = metrics_of(confusion_matrix(label, mask, 3))
    assert metrics.confusion.tolist() == [[2, 1, 0, 1], [0, 2, 0, 0], [0, 0, 0, 0]]
    assert metrics.ious == (2 / 4, 2 / 3, None)
    assert metrics.pixel_accuracy == 4 / 6
    assert metrics.mean_class_accuracy == (2 / 4 + 1) / 2


def test_masks_without_any_class_are_all_wrong():
    label = np.zeros((2, 2), np.uint8)
    metrics = metrics_of(confusion_matrix(label, label + IGNORE, 3))
    assert metrics.miou == metrics.pixel_accuracy == metrics.mean_class_accuracy == 0


@pytest.mark.parametrize("value", [3, 254])
def test_a_mask_value_outside_the_class_table_is_an_error_wherever_it_is(value):
    label = np.full((2, 2), IGNORE, np.uint8)
    mask = np.uint8([[0, value], [IGNORE, 2]])
    with pytest.raises(ValueError, match=rf"holds \[{value}\]; expected class ids 0..2, or 255"):
        confusion_matrix(label, mask, 3)


def test_a_table_of_255_classes_leaves_a_value_for_no_class():
    label = np.uint8([[254, 254, 0]])
    confusion = confusion_matrix(label, np.uint8([[254, IGNORE, 254]]), 255)
    assert confusion.shape == (255, 256)
    assert confusion[254, 254] == confusion[254, 255] == confusion[0, 254] == 1


def test_counts_of_photos_add_up():
    random = np.random.default_rng(3)
    label, mask = random.integers(0, 3, (2, 20, 30)).astype(np.uint8)
    halves = [count_pixels(label[rows], mask[rows], 3) for rows in (slice(10), slice(10, 20))]
    total = sum(halves, Counts.nothing(3))
    np.testing.assert_array_equal(total.confusion, confusion_matrix(label, mask, 3))
    assert total.images == 2
    assert 0 < total.border_confusion.sum() <= total.confusion.sum()


def test_border_pixels_are_those_with_another_class_within_three_pixels():
    label = np.zeros((9, 20), np.uint8)
    label[:, 10:] = 1
    assert np.flatnonzero(near_border(label)[4]).tolist() == [7, 8, 9, 10, 11, 12]
    assert not near_border(np.full((9, 9), IGNORE, np.uint8)).any()


def test_confusion_is_written_as_a_table_and_a_chart(tmp_path):
    metrics = metrics_of(without_misses(np.array([[7, 1, 0], [2, 5, 0], [0, 0, 4]])))
    metrics.write_confusion_csv(tmp_path / "confusion.csv")
    assert (tmp_path / "confusion.csv").read_text() == (
        "label,Road,Sky,Tram\nRoad,7,1,0\nSky,2,5,0\nTram,0,0,4\n"
    )
    metrics.write_confusion_chart(tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as chart:
        assert chart.format == "PNG" and chart.width > 300


def test_confusion_shows_pixels_without_a_class_where_there_are_any(tmp_path):
    metrics = metrics_of(np.array([[7, 1, 0, 0], [2, 5, 0, 3], [0, 0, 4, 0]]))
    metrics.write_confusion_csv(tmp_path / "confusion.csv")
    assert (tmp_path / "confusion.csv").read_text() == (
        "label,Road,Sky,Tram,no class\nRoad,7,1,0,0\nSky,2,5,0,3\nTram,0,0,4,0\n"
    )
    metrics.write_confusion_chart(tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as chart:
        assert chart.format == "PNG"


def test_class_that_occurs_nowhere_has_no_iou_and_does_not_lower_the_mean():
    metrics = metrics_of(without_misses(np.diag([5, 3, 0])))
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

    class Engine:
        batch_size = streams = 1

        def predict(self, images):
            return predict(images)

    def predict(images):
        assert images.dtype == np.uint8 and images.shape == (1, 96, 128, 3)
        logits = images[:, 2::4, 2::4].astype(np.float32)
        logits[..., 2] = -1
        return logits

    photos = list_split(tmp_path, "val", len(CLASSES))
    segmenter = Segmenter(Engine(), CLASSES, InputSize(128, 96))
    metrics = measure(lambda path: segmenter.segment(read_photo(path)).mask, photos, SAME)
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
    measured = evaluate(package, list_split(shared_data / "camvid", "val", len(CAMVID)))
    assert measured.miou == pytest.approx(package.metrics["miou"], abs=0.005)
    assert measured.miou > 0.55
    assert measured.images == package.metrics["images"] == 101


def test_masks_of_cityscapes_are_compared_with_labels_of_camvid():
    """A truck is a vehicle and so is CamVid's car; grass where CamVid has a road is wrong."""
    common = Common.of(CITYSCAPES, CAMVID)
    car, road, tree = (CAMVID.names.index(name) for name in ("Car", "Road", "Tree"))
    truck, bus, street, terrain = (
        CITYSCAPES.names.index(name) for name in ("truck", "bus", "road", "terrain")
    )
    label = np.uint8([[car, car, road, road, tree, IGNORE]])
    mask = np.uint8([[truck, bus, street, terrain, terrain, street]])
    metrics = Metrics.of(common, count_common(label, mask, common))
    ious = dict(zip(metrics.names, metrics.ious, strict=True))
    assert metrics.names == meanings(CAMVID)
    assert (ious["vehicle"], ious["road"], ious["vegetation"]) == (1, 1 / 2, 1 / 2)
    assert ious["sky"] is None
    assert metrics.pixel_accuracy == 4 / 5


def test_what_only_masks_have_is_wrong_and_what_only_labels_have_is_left_out():
    classes = ClassTable.load("pascal-voc")
    common = Common.of(classes, CITYSCAPES)
    car, rider, person = (CITYSCAPES.names.index(name) for name in ("car", "rider", "person"))
    background, voc_car = (classes.names.index(name) for name in ("background", "car"))
    label = np.uint8([[car, car, rider, rider, person]])
    mask = np.uint8([[voc_car, background, voc_car, background, background]])
    metrics = Metrics.of(common, count_common(label, mask, common))
    ious = dict(zip(metrics.names, metrics.ious, strict=True))
    assert (ious["car"], ious["person"]) == (1 / 2, 0)
    assert metrics.confusion.sum() == 3 and metrics.confusion[:, -1].sum() == 2


def test_equal_classes_are_counted_as_they_are():
    random = np.random.default_rng(4)
    label, mask = random.integers(0, 3, (2, 20, 30)).astype(np.uint8)
    label[:3] = mask[:, :2] = IGNORE
    found, plain = count_common(label, mask, SAME), count_pixels(label, mask, 3)
    np.testing.assert_array_equal(found.confusion, plain.confusion)
    np.testing.assert_array_equal(found.border_confusion, plain.border_confusion)


def test_a_mask_value_outside_its_own_table_is_an_error():
    common = Common.of(CITYSCAPES, CAMVID)
    with pytest.raises(ValueError, match=r"holds \[19\]; expected class ids 0..18"):
        count_common(np.uint8([[0]]), np.uint8([[19]]), common)


def test_labels_of_a_mapping_are_measured_by_its_groups(tmp_path):
    """Values 7: road; 8: sky or tram; 9: no label."""
    for folder in ("val", "valannot"):
        (tmp_path / folder).mkdir()
    (tmp_path / "mapping.csv").write_text("value,class,also\n7,Road,Sky\n8,Sky|Tram,\n9,,\n")
    Image.new("RGB", (3, 2)).save(tmp_path / "val" / "a.png")
    label = np.uint8([[7, 7, 7], [8, 8, 9]])
    Image.fromarray(label).save(tmp_path / "valannot" / "a.png")
    mapping = LabelMapping.read(tmp_path / "mapping.csv", CLASSES)
    photos = list_split(tmp_path, "val", len(CLASSES), mapping)
    mask = np.uint8([[0, 1, IGNORE], [1, 2, 0]])
    metrics = measure(lambda path: mask, photos, Common.of_targets(CLASSES, photos.targets))
    assert metrics.names == ("Road", "Sky|Tram")
    assert metrics.confusion.tolist() == [[1, 1, 1], [0, 2, 0]]
    assert metrics.ious == (1 / 3, 2 / 3)
    assert metrics.pixel_accuracy == 3 / 5


def test_the_classes_of_camvid_are_those_of_a_model_of_cityscapes(shared_data):
    """CamVid's own labels, each class as the first of Cityscapes that means the same."""
    common = Common.of(CITYSCAPES, CAMVID)
    photos = list_split(shared_data / "camvid", "val", len(CAMVID))
    of_label = np.full(256, IGNORE, np.uint8)
    of_label[: len(CAMVID)] = [common.columns[0].tolist().index(at) for at in common.of_labels]
    counts = Counts.nothing(len(common.names))
    for path in photos.labels[:5]:
        label = read_label(path, photos.classes)
        counts += count_common(label, of_label[label], common)
    metrics = Metrics.of(common, counts)
    assert metrics.miou == metrics.pixel_accuracy == 1
    assert metrics.ious.count(None) == 0
