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


@pytest.mark.parametrize("class_set", ["camvid", "cityscapes", "ade20k"])
def test_every_class_set_has_the_usual_ones(class_set):
    indicators = Indicators.load(ClassTable.load(class_set))
    assert indicators.keys == USUAL
    assert all(indicator.source for indicator in indicators.indicators)


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
