import keras
import numpy as np
import pytest

from models.classes import IGNORE, ClassTable, SegmentationClass
from models.distillation import TEACHER_SHARE, Teacher

CAMVID = ClassTable.load("camvid")


def test_teacher_shares_every_pixel_with_its_label():
    random = np.random.default_rng(0)
    crops = random.integers(0, 256, (2, 64, 96, 3)).astype(np.uint8)
    labels = random.integers(0, len(CAMVID), (2, 64, 96)).astype(np.uint8)
    labels[0, :8], labels[1, :8] = IGNORE, len(CAMVID)
    mixed = Teacher("default", CAMVID).soften(crops, labels)
    assert mixed.shape == (2, 64, 96, len(CAMVID)) and mixed.dtype == np.float16
    assert not mixed[:, :8].any()
    np.testing.assert_allclose(mixed[:, 8:].sum(-1), 1, atol=0.01)
    of_label = np.take_along_axis(mixed[:, 8:], labels[:, 8:, :, None], -1)
    assert of_label.min() >= 1 - TEACHER_SHARE - 0.01
    opinion = mixed[:, 8:] - (1 - TEACHER_SHARE) * keras.utils.to_categorical(labels[:, 8:], 11)
    assert opinion.max() > 0.2, "the teacher is sure of nothing"


def test_an_imported_network_teaches(imported_model):
    cityscapes = ClassTable.load("cityscapes")
    crops = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    mixed = Teacher(str(imported_model), cityscapes).soften(crops, np.zeros((1, 64, 96), np.uint8))
    np.testing.assert_allclose(mixed.sum(-1), 1, atol=0.01)
    assert mixed[..., 1:].max() > 0.1


def test_an_imported_network_of_class_ids_or_one_size_is_no_teacher(class_ids_model):
    with pytest.raises(ValueError, match="ids gives class ids, for one size only$"):
        Teacher(str(class_ids_model), ClassTable.load("cityscapes"))


def test_teacher_of_other_classes_is_refused():
    others = ClassTable(
        (SegmentationClass("Road", (1, 2, 3)), SegmentationClass("Not road", (4, 5, 6)))
    )
    with pytest.raises(ValueError, match="a teacher needs the classes of the labels, Road, Not"):
        Teacher("default", others)
