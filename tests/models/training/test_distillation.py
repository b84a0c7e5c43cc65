from pathlib import Path

import numpy as np
import pytest

from models.classes import IGNORE, ClassTable, SegmentationClass
from models.label_mappings import LabelMapping, Target, joint_targets, single_targets
from models.packages import load_package
from models.training.distillation import SURE, TEACHER_SHARE, Teacher, soften

CAMVID = ClassTable.load("camvid")
CITYSCAPES = ClassTable.load("cityscapes")
OF_CAMVID = single_targets(len(CAMVID))
STREET = (140, 160, 180), (90, 90, 95)
"""Colours of a sky and of a road."""


@pytest.fixture(scope="module")
def default():
    return Teacher.load(load_package("default"), CAMVID)


def street(height=96, width=128):
    """A picture of a sky above a road, which the default model is sure of in part."""
    crop = np.empty((1, height, width, 3), np.uint8)
    crop[:, : height // 2], crop[:, height // 2 :] = STREET
    return crop


def unlabelled(crops):
    return np.full(crops.shape[:3], IGNORE, np.uint8)


def test_teacher_shares_labelled_pixels_it_is_sure_of(default):
    crops = street()
    labels = np.random.default_rng(0).integers(0, len(CAMVID), crops.shape[:3]).astype(np.uint8)
    mixed = soften([default], crops, labels, OF_CAMVID)
    assert mixed.shape == (*labels.shape, len(CAMVID)) and mixed.dtype == np.float16
    np.testing.assert_allclose(mixed.sum(-1), 1, atol=0.01)
    of_label = np.take_along_axis(mixed, labels[..., None], -1)[..., 0]
    sure = default.see(crops[0]).max(-1)[None] >= SURE
    assert sure.any() and not sure.all()
    assert (of_label[~sure] == 1).all()
    assert of_label[sure].min() >= 1 - TEACHER_SHARE - 0.01
    assert of_label[sure].min() < 1 - 0.4 * TEACHER_SHARE


def test_unlabelled_pixels_get_what_the_teacher_is_sure_of(default):
    crops = street()
    seen = default.see(crops[0])
    mixed = soften([default], crops, unlabelled(crops), OF_CAMVID)[0]
    sure = seen.max(-1) >= SURE
    np.testing.assert_allclose(mixed[sure], seen[sure], atol=0.001)
    assert not mixed[~sure].any()


def test_several_teachers_count_on_average(default):
    crops = street()
    opposed = Teacher(default.segmenter, default.targets, default.target_of[::-1].copy())
    mixed = soften([default, opposed], crops, unlabelled(crops), OF_CAMVID)
    assert not mixed[default.see(crops[0]).max(-1)[None] > 0.99].any(), "no one is sure together"
    same = soften([default, default], crops, unlabelled(crops), OF_CAMVID)
    np.testing.assert_array_equal(same, soften([default], crops, unlabelled(crops), OF_CAMVID))


def test_an_imported_network_teaches_classes_of_its_mapping(imported_model):
    """Of the 19 classes of the network, 17 mean the same here and the last one means nothing."""
    rows = [f"{at},{'Building|Tree' if at else 'Road'}" for at in range(18)]
    mapping = LabelMapping.parse("\n".join(["value,class", *rows, "18,"]), "city.csv", CAMVID)
    teacher = Teacher.load(load_package(str(imported_model)), CAMVID, mapping)
    targets = joint_targets([teacher.targets], len(CAMVID))
    crops = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    seen = teacher.see(crops[0])
    assert seen.shape == (64, 96, 2) and 0.8 < seen.sum(-1).max() <= 1.001
    mixed = soften([teacher], crops, unlabelled(crops), targets)
    taught = mixed[mixed.max(-1) >= SURE]
    assert len(taught) and {targets[at] for at in taught.argmax(-1)} == {Target((1, 5))}


def test_a_network_of_class_ids_and_one_size_teaches_as_well(class_ids_model):
    teacher = Teacher.load(load_package(str(class_ids_model)), CITYSCAPES)
    crops = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    mixed = soften([teacher], crops, unlabelled(crops), single_targets(len(CITYSCAPES)))
    assert (mixed.max(-1) == 1).all(), "class ids are taken for sure"


def test_teacher_of_other_classes_needs_a_mapping():
    others = ClassTable(
        (SegmentationClass("Road", (1, 2, 3)), SegmentationClass("Not road", (4, 5, 6)))
    )
    package = load_package("default")
    with pytest.raises(ValueError, match="the classes of the labels, Road, Not.*MODEL:MAPPING.csv"):
        Teacher.load(package, others)
    mapping = LabelMapping.parse("value,class\n3,Road\n", "roads.csv", others)
    with pytest.raises(
        ValueError, match="roads.csv: leaves out Sky, Building, .* of the teacher d"
    ):
        Teacher.load(package, others, mapping)


def test_the_mapping_of_the_examples_covers_a_teacher_of_cityscapes(imported_model):
    path = Path(__file__).resolve().parents[3] / "examples" / "mappings" / "cityscapes.csv"
    mapping = LabelMapping.read(path, CAMVID)
    teacher = Teacher.load(load_package(str(imported_model)), CAMVID, mapping)
    said = [teacher.targets[at].classes for at in teacher.target_of]
    names = [[CAMVID.names[class_id] for class_id in classes] for classes in said]
    assert dict(zip(CITYSCAPES.names, names, strict=True))["rider"] == ["Pedestrian", "Bicyclist"]
    assert names[0] == ["Road"] and names[10] == ["Sky"]
