"""Indicators: definitions from YAML, for the classes that a model has."""

import numpy as np
import pytest

from models.classes import CAMVID, ClassTable
from models.indicators import IndicatorError, Indicators

USUAL = (
    "green_view_index",
    "sky_view",
    "building_view",
    "road_share",
    "pavement_share",
    "enclosure",
    "vehicle_share",
)


def shares(**of: float) -> np.ndarray:
    return np.array([[of.get(key, 0.0) for key in CAMVID.keys]])


def values_of(class_set: str, **of: float) -> dict[str, float]:
    """The indicators of a view, given the shares of classes by their keys."""
    classes = ClassTable.load(class_set)
    assert of.keys() <= set(classes.keys)
    view = np.array([[of.get(key, 0.0) for key in classes.keys]])
    return {each.key: each.values(view)[0] for each in Indicators.load(classes).indicators}


@pytest.mark.parametrize(
    "class_set",
    ["camvid", "cityscapes", "ade20k", "mapillary-vistas", "mapillary-vistas-2", "coco-stuff"],
)
def test_every_class_set_of_streets_has_the_usual_ones(class_set):
    indicators = Indicators.load(ClassTable.load(class_set))
    assert indicators.keys == USUAL
    assert all(indicator.source for indicator in indicators.indicators)


def test_pascal_voc_knows_vehicles_only():
    """Its pot plants are no green view, and its background may be anything."""
    assert Indicators.load(ClassTable.load("pascal-voc")).keys == ("vehicle_share",)


def test_one_view_has_one_value_whatever_the_class_set():
    views = [
        values_of(
            "camvid",
            sky=0.2, building=0.25, road=0.2, pavement=0.05, tree=0.15, fence=0.05, car=0.06,
            bicyclist=0.04,
        ),
        values_of(
            "cityscapes",
            sky=0.2, building=0.2, wall=0.05, road=0.2, sidewalk=0.05, vegetation=0.15, fence=0.05,
            car=0.05, bus=0.01, rider=0.01, bicycle=0.03,
        ),
        values_of(
            "ade20k",
            sky=0.2, house=0.2, wall=0.05, road=0.2, path=0.05, tree=0.1, palm=0.05, railing=0.05,
            van=0.06, minibike=0.04,
        ),
        values_of(
            "mapillary-vistas",
            sky=0.2, building=0.25, road=0.15, lane_marking___general=0.05, curb=0.02,
            sidewalk=0.03, vegetation=0.15, guard_rail=0.05, trailer=0.06, bicyclist=0.02,
            motorcycle=0.02,
        ),
        values_of(
            "mapillary-vistas-2",
            sky=0.2, building=0.2, garage=0.05, road=0.15, lane_marking___text=0.05,
            traffic_island=0.05, vegetation=0.15, temporary_barrier=0.05, car=0.06, bicycle=0.04,
        ),
        values_of(
            "coco-stuff",
            sky_other=0.15, clouds=0.05, house=0.2, wall_brick=0.05, road=0.2, pavement=0.05,
            tree=0.1, leaves=0.05, fence=0.05, car=0.06, motorcycle=0.04,
        ),
    ]  # fmt: skip
    expected = {
        "green_view_index": 0.15,
        "sky_view": 0.2,
        "building_view": 0.25,
        "road_share": 0.2,
        "pavement_share": 0.05,
        "enclosure": 0.4 / 0.3,
        "vehicle_share": 0.1,
    }
    for view in views:
        assert view == pytest.approx(expected)


def test_the_classes_of_the_usual_ones_are_those_of_version_1():
    """Groups of class keys until version 1. Riders of Cityscapes were missing among vehicles."""
    groups = {
        "vegetation": "vegetation terrain tree grass plant palm flower field",
        "sky": "sky",
        "building": "building house skyscraper hovel tower wall",
        "trees": "vegetation tree palm",
        "road": "road",
        "pavement": "pavement sidewalk path",
        "fence": "fence railing",
        "vehicle": "car truck bus van train motorcycle bicycle minibike bicyclist",
    }
    made_of = {
        "green_view_index": ["vegetation"], "sky_view": ["sky"], "building_view": ["building"],
        "road_share": ["road"], "pavement_share": ["pavement"], "vehicle_share": ["vehicle"],
        "enclosure": ["building", "trees"],
    }  # fmt: skip
    for class_set in ("camvid", "cityscapes", "ade20k"):
        classes = ClassTable.load(class_set)

        def members(names, classes=classes):
            return {key for name in names for key in groups[name].split() if key in classes.keys}

        for indicator in Indicators.load(classes).indicators:
            found = {classes.keys[at] for at in indicator.of}
            assert found - {"rider"} == members(made_of[indicator.key])
            if indicator.over:
                over = {classes.keys[at] for at in indicator.over}
                assert over == members(["road", "pavement", "fence"])


def test_a_class_of_any_table_counts_by_its_name():
    for key in ["vegetation", "terrain", "tree", "grass", "plant", "palm", "flower", "field"]:
        classes = ClassTable.of([(key, (1, 2, 3)), ("ground", (4, 5, 6))])
        assert Indicators.load(classes).keys == ("green_view_index",)


def test_values():
    view = shares(tree=0.3, sky=0.2, building=0.1, road=0.25, pavement=0.1, car=0.05)
    values = {i.key: i.values(view)[0] for i in Indicators.load(CAMVID).indicators}
    assert values == pytest.approx(
        {
            "green_view_index": 0.3,
            "sky_view": 0.2,
            "building_view": 0.1,
            "road_share": 0.25,
            "pavement_share": 0.1,
            "enclosure": (0.1 + 0.3) / (0.25 + 0.1),
            "vehicle_share": 0.05,
        }
    )


def test_a_ratio_to_nothing_is_not_defined():
    (enclosure,) = [i for i in Indicators.load(CAMVID).indicators if not i.is_share]
    assert np.isnan(enclosure.values(shares(tree=1.0))[0])


def test_what_the_model_cannot_tell_is_left_out():
    classes = ClassTable.of([("Sky", (1, 2, 3)), ("Ground", (4, 5, 6))])
    assert Indicators.load(classes).keys == ("sky_view",)


def test_definitions_of_ones_own(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "version: '2026-11'\ngroups: {blue: [sky, car]}\n"
        "indicators: {blueness: {name: Blueness, of: [blue]}}\n"
    )
    indicators = Indicators.load(CAMVID, file)
    assert (indicators.version, indicators.keys) == ("2026-11", ("blueness",))
    assert indicators.indicators[0].values(shares(sky=0.5, car=0.25, road=0.25))[0] == 0.75


def test_definitions_of_ones_own_by_meaning(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "version: '1'\nmeanings: {people: [person]}\ngroups: {cars: [car]}\n"
        "indicators: {busy: {name: Busy, of: [people, cars]}}\n"
    )
    for class_set, person in (("camvid", "Pedestrian"), ("cityscapes", "person")):
        classes = ClassTable.load(class_set)
        (busy,) = Indicators.load(classes, file).indicators
        assert {classes.names[at].lower() for at in busy.of} == {person.lower(), "car"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: [", "not valid YAML"),
        ("version: '1'\ngroups: {}\n", "indicators: Field required"),
        ("version: 1\ngroups: {a: [sky]}\nindicators: {b: {name: B, of: [a]}}\n", "version"),
        (
            "version: '1'\ngroups: {a: [sky]}\nindicators: {b: {name: B, of: [c]}}\n",
            "names the unknown group 'c'; the groups are a",
        ),
        (
            "version: '1'\ngroups: {a: [sky]}\nindicators: {b: {name: B, of: [a], per: [a]}}\n",
            "indicators.b.per",
        ),
        (
            "version: '1'\ngroups: {a: [sky]}\nmeanings: {a: [sky]}\n"
            "indicators: {b: {name: B, of: [a]}}\n",
            "group 'a' is among groups and among meanings",
        ),
        ("version: '1'\ngroups: {a: [sky]}\nindicators: {'B c': {name: B, of: [a]}}\n", "B c"),
    ],
)
def test_wrong_files_say_what_is_wrong(tmp_path, text, said):
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(IndicatorError, match="wrong.yaml") as error:
        Indicators.load(CAMVID, file)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(IndicatorError, match="No such file"):
        Indicators.load(CAMVID, tmp_path / "none.yaml")
