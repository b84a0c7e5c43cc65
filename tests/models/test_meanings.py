"""Meanings of classes, and what two class tables have in common."""

import csv
from collections import Counter

import numpy as np
import pytest

from models.classes import CAMVID, CLASS_SETS, IGNORE, ClassTable
from models.label_mappings import Target
from models.meanings import BROADER, NAMED_BY, OTHER, TABLE, Common, meanings

CITYSCAPES = ClassTable.load("cityscapes")
SETS = sorted(file.stem for file in CLASS_SETS.glob("*.csv"))


def of(*names: str) -> ClassTable:
    return ClassTable.of((name, (number, 0, 0)) for number, name in enumerate(names))


def by_name(classes: ClassTable) -> dict[str, str]:
    return dict(zip(classes.names, meanings(classes), strict=True))


def of_masks(common: Common, masks: ClassTable) -> dict[str, str | None]:
    """What each class of the masks is compared as."""
    return {
        name: None if at == IGNORE else common.names[at]
        for name, at in zip(masks.names, common.columns[0], strict=True)
    }


def test_each_class_of_each_set_has_one_meaning():
    with TABLE.open(newline="") as file:
        stated = Counter((row["class_set"], row["class"]) for row in csv.DictReader(file))
    classes = {(name, entry) for name in SETS for entry in ClassTable.load(name).names}
    assert stated.keys() == classes
    assert set(stated.values()) == {1}
    assert sorted(NAMED_BY) == SETS


def test_only_camvid_has_meanings_that_others_keep_apart():
    broad = set(BROADER.values())
    assert set(meanings(CAMVID)) >= broad
    for name in set(SETS) - {"camvid"}:
        assert not broad & set(meanings(ClassTable.load(name)))


@pytest.mark.parametrize(
    ("meaning", "classes"),
    [
        ("sky", {"camvid": "Sky", "cityscapes": "sky", "mapillary-vistas": "Sky"}),
        ("road", {"camvid": "Road", "ade20k": "road", "mapillary-vistas-2": "Lane Marking - Text"}),
        ("pavement", {"camvid": "Pavement", "cityscapes": "sidewalk", "coco-stuff": "pavement"}),
        ("car", {"cityscapes": "car", "ade20k": "van", "pascal-voc": "car"}),
        ("tree", {"cityscapes": "vegetation", "ade20k": "palm", "coco-stuff": "leaves"}),
        ("traffic light", {"mapillary-vistas-2": "Traffic Light - Pedestrians"}),
        (OTHER, {"pascal-voc": "background", "mapillary-vistas": "Unlabeled"}),
    ],
)
def test_classes_that_mean_the_same_in_several_sets(meaning, classes):
    for class_set, name in classes.items():
        assert by_name(ClassTable.load(class_set))[name] == meaning


def test_a_set_is_known_with_a_class_more_or_a_few_less():
    more = of(*CAMVID.names, "Void")
    assert meanings(more) == (*meanings(CAMVID), "void")
    assert meanings(of("background", *CITYSCAPES.names)) == (OTHER, *meanings(CITYSCAPES))
    vistas = ClassTable.load("mapillary-vistas")
    assert meanings(of(*vistas.names[:65])) == meanings(vistas)[:65]
    assert by_name(of(*CAMVID.names[:9]))["Tree"] == "vegetation"


def test_classes_of_an_unknown_table_are_found_by_their_keys():
    found = by_name(of("Tree", "House", "Sidewalk", "Van", "Bicyclist", "Tram stop"))
    assert tuple(found.values()) == ("tree", "building", "pavement", "car", "rider", "tram_stop")


def test_cityscapes_meets_camvid_in_eleven_meanings():
    common = Common.of(CITYSCAPES, CAMVID)
    assert common.names == meanings(CAMVID)
    assert common.left_out_of_masks == common.left_out_of_labels == ()
    assert of_masks(common, CITYSCAPES) == {
        "road": "road", "sidewalk": "pavement", "building": "structure", "wall": "structure",
        "fence": "fence", "pole": "pole", "traffic light": "signage", "traffic sign": "signage",
        "vegetation": "vegetation", "terrain": "vegetation", "sky": "sky", "person": "person",
        "rider": "two-wheeler", "car": "vehicle", "truck": "vehicle", "bus": "vehicle",
        "train": "vehicle", "motorcycle": "two-wheeler", "bicycle": "two-wheeler",
    }  # fmt: skip


def test_it_does_not_matter_whose_the_merged_classes_are():
    one, other = Common.of(CITYSCAPES, CAMVID), Common.of(CAMVID, CITYSCAPES)
    assert set(one.names) == set(other.names)
    for name in one.names:
        assert {
            CITYSCAPES.names[c]
            for c, at in enumerate(one.columns[0])
            if at == one.names.index(name)
        } == {
            CITYSCAPES.names[c]
            for c, at in enumerate(other.of_labels)
            if at == other.names.index(name)
        }


def test_sets_that_keep_classes_apart_are_compared_apart():
    vistas = ClassTable.load("mapillary-vistas")
    common = Common.of(vistas, CITYSCAPES)
    assert common.names == meanings(CITYSCAPES)
    found = of_masks(common, vistas)
    assert (found["Car"], found["Truck"], found["On Rails"]) == ("car", "truck", "train")
    assert (found["Curb"], found["Manhole"]) == ("pavement", "road")
    assert {"Mountain", "Water", "Boat", "Unlabeled"} <= set(common.left_out_of_masks)
    assert common.left_out_of_labels == ()


def test_what_has_no_counterpart_is_named():
    common = Common.of(ClassTable.load("pascal-voc"), CITYSCAPES)
    assert common.names == ("person", "car", "bus", "train", "motorcycle", "bicycle")
    assert "background" in common.left_out_of_masks
    assert {"road", "sky", "rider"} <= set(common.left_out_of_labels)


def test_unnamed_rests_are_not_alike():
    vistas = ClassTable.load("mapillary-vistas")
    common = Common.of(ClassTable.load("pascal-voc"), vistas)
    assert OTHER not in common.names
    assert "Unlabeled" in common.left_out_of_labels


def test_equal_classes_are_compared_one_by_one():
    for table in (ClassTable.load("ade20k"), of("Left", "Right")):
        common = Common.of(table, table)
        assert common.names == table.names
        assert common.of_labels == tuple(range(len(table)))
        assert (common.columns == common.of_labels).all()


def test_classes_of_one_table_within_the_other_are_compared_one_by_one():
    vistas = ClassTable.load("mapillary-vistas")
    fewer = of(*vistas.names[:65])
    assert Common.of(fewer, vistas).names == fewer.names
    assert Common.of(fewer, vistas).left_out_of_labels == ("Unlabeled",)
    turned = Common.of(of("sky", "road"), of("Road", "Sky", "Tram"))
    assert turned.names == ("Road", "Sky")
    assert turned.columns.tolist() == [[1, 0], [1, 0]]


def test_nothing_in_common_is_an_error():
    with pytest.raises(ValueError, match=r"classes Left, Right, the model has Sky, Bui.*nothing"):
        Common.of(CAMVID, of("Left", "Right"))


def test_ids_become_positions_and_the_rest_no_class():
    common = Common.of(CITYSCAPES, CAMVID)
    road, car = 3, 8
    label = np.uint8([[road, car, car, road, road, IGNORE]])
    mask = np.uint8([[0, 13, 14, 18, IGNORE, 0]])
    label, mask = common.to_common(label, mask)
    assert [common.names[at] for at in label[0, :5]] == [
        "road", "vehicle", "vehicle", "road", "road",
    ]  # fmt: skip
    assert [common.names[at] for at in mask[0, :4]] == [
        "road", "vehicle", "vehicle", "two-wheeler",
    ]  # fmt: skip
    assert label[0, 5] == mask[0, 4] == IGNORE


def targets(*groups: str) -> list[Target]:
    return [Target(tuple(map(CAMVID.names.index, group.split("|")))) for group in groups]


def counted(common: Common, group: str) -> dict[str, str | None]:
    """As what the pixels of a group count, by their class in the mask."""
    row = common.columns[common.names.index(group)]
    return {
        name: None if at == IGNORE else common.names[at]
        for name, at in zip(CAMVID.names, row, strict=True)
    }


def test_any_class_of_a_group_is_right():
    common = Common.of_targets(CAMVID, targets("Road", "Building|Tree"))
    assert common.names == ("Road", "Building|Tree")
    found = counted(common, "Building|Tree")
    assert found["Building"] == found["Tree"] == "Building|Tree"
    assert found["Road"] == "Road" and counted(common, "Road")["Tree"] == "Building|Tree"


def test_what_no_group_names_is_no_class():
    common = Common.of_targets(CAMVID, targets("Road", "Building|Tree"))
    assert counted(common, "Road")["Sky"] is None
    assert "Sky" in common.left_out_of_masks and "Tree" not in common.left_out_of_masks
    assert common.left_out_of_labels == ()


def test_a_class_of_several_groups_counts_as_that_of_the_label_else_as_the_smallest():
    common = Common.of_targets(CAMVID, targets("Building|Tree|Fence", "Building|Tree", "Sky"))
    assert counted(common, "Building|Tree|Fence")["Tree"] == "Building|Tree|Fence"
    assert counted(common, "Building|Tree")["Tree"] == "Building|Tree"
    assert counted(common, "Sky")["Tree"] == "Building|Tree"
    assert counted(common, "Sky")["Fence"] == "Building|Tree|Fence"


def test_targets_that_differ_in_what_else_they_may_be_are_one_group():
    road, pole = CAMVID.names.index("Road"), CAMVID.names.index("Pole")
    common = Common.of_targets(CAMVID, [Target((road,)), Target((pole,)), Target((road,), (pole,))])
    assert (common.names, common.of_labels) == (("Road", "Pole"), (0, 1, 0))
    assert counted(common, "Road")["Pole"] == "Pole"


def test_targets_of_one_class_each_are_compared_as_the_classes():
    common, same = Common.of_targets(CAMVID, targets(*CAMVID.names)), Common.of(CAMVID, CAMVID)
    assert (common.names, common.of_labels) == (same.names, same.of_labels)
    np.testing.assert_array_equal(common.columns, same.columns)
