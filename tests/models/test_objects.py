import numpy as np
import pytest
import scipy.ndimage

from models.classes import IGNORE
from models.connected_areas import number_areas
from models.evaluation import Counts, count_pixels
from models.objects import ObjectCounts, class_ids, count_objects

LESION = 1


def drawn(text):
    """An image of class ids from rows of digits; `-` is a pixel without a class."""
    return np.uint8([[IGNORE if c == "-" else int(c) for c in row] for row in text.split()])


def test_each_object_counts_once_whatever_its_size():
    label = drawn("""
        11110000
        11110010
        11110000
        00000000
        11000011
    """)
    mask = drawn("""
        11100000
        11100010
        00000000
        00000000
        00000000
    """)
    counts = count_objects(label, mask, LESION)
    assert counts == ObjectCounts(labelled=4, touched=2, found=2, false=0)
    assert (counts.recall_touched, counts.recall_found) == (1 / 2, 1 / 2)


def test_half_of_an_object_is_found_and_less_is_only_touched():
    label = drawn("1111 0000 1111 0000 1111")
    mask = drawn("1100 0000 1000 0000 0000")
    assert count_objects(label, mask, LESION) == ObjectCounts(labelled=3, touched=2, found=1)


def test_pixels_that_share_a_corner_are_one_object():
    label = drawn("100 010 001")
    assert count_objects(label, label, LESION) == ObjectCounts(1, 1, 1, 0)


def test_areas_are_false_where_they_touch_no_object():
    label = drawn("11000000 00000000")
    mask = drawn("01100101 00000000")
    assert count_objects(label, mask, LESION) == ObjectCounts(1, 1, 1, false=2)


def test_one_area_can_find_several_objects():
    label = drawn("11011")
    assert count_objects(label, drawn("11111"), LESION) == ObjectCounts(2, 2, 2, 0)


def test_pixels_without_a_class_in_the_label_are_left_out():
    label = drawn("0-10 0-00")
    mask = drawn("010- 0100")
    assert count_objects(label, mask, LESION) == ObjectCounts(labelled=1)


def test_other_classes_are_not_looked_at():
    label = drawn("220 001")
    assert count_objects(label, label, 2) == ObjectCounts(1, 1, 1, 0)
    assert count_objects(label, label * 0, 0) == ObjectCounts(1, 1, 1, 0)


def test_photos_without_an_object_have_no_recall():
    nothing = drawn("000 000")
    counts = count_objects(nothing, drawn("100 001"), LESION)
    assert counts == ObjectCounts(false=2)
    assert counts.to_dict() == {
        "labelled": 0,
        "recall_touched": None,
        "recall_found": None,
        "false": 2,
    }


def test_areas_are_those_of_scipy():
    random = np.random.default_rng(0)
    for share in (0.1, 0.4, 0.6, 1.0):
        shown = random.random((37, 53)) < share
        expected, number = scipy.ndimage.label(shown, np.ones((3, 3)))
        areas = number_areas(shown)
        assert areas.max() == number > 0
        np.testing.assert_array_equal(areas, expected)


def test_objects_of_photos_add_up():
    label, mask = drawn("101"), drawn("100")
    counts = sum(
        (count_pixels(label, mask, 2, objects=[LESION]) for _ in range(3)), Counts.nothing(2)
    )
    assert counts.objects == {LESION: ObjectCounts(labelled=6, touched=3, found=3)}
    assert count_pixels(label, mask, 2).objects == {}


def test_an_unknown_class_is_named():
    assert class_ids(("No tumour", "Tumour"), ["Tumour"]) == (1,)
    with pytest.raises(ValueError, match="objects of Lesion: no such class; expected one of No"):
        class_ids(("No tumour", "Tumour"), ["Lesion"])
