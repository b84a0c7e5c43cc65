"""Mapping files: what the values or colours of labels say in a model's classes."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from models.classes import CAMVID, IGNORE
from models.label_mappings import LabelMapping, possible_classes

VALUES = """\
value,class,also
0,Road,
2,Bicyclist|Pedestrian,Pole
7,Pedestrian | Bicyclist,Pole
9,Road,Car
255,,
"""
COLORS = """\
red,green,blue,class
128,0,0,Building
0,128,0,Tree
128,128,0,Building
0,0,0,
"""


def mapping_of(text):
    return LabelMapping.parse(text, "mapping.csv", CAMVID)


def png(pixels, mode=None):
    return encoded(Image.fromarray(np.asarray(pixels, np.uint8)).convert(mode))


def encoded(image):
    data = BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def named(ids):
    return tuple(CAMVID.names[class_id] for class_id in ids)


def said(mapping, ids):
    """What target ids say: the classes, and the classes that are possible as well."""
    targets = [None if id_ == IGNORE else mapping.targets[id_] for id_ in np.ravel(ids)]
    return [target and (named(target.classes), named(target.also)) for target in targets]


def test_label_values_become_what_they_say():
    mapping = mapping_of(VALUES)
    assert said(mapping, mapping.decode(png([[0, 2], [9, 255]]))) == [
        (("Road",), ()),
        (("Pedestrian", "Bicyclist"), ("Pole",)),
        (("Road",), ("Car",)),
        None,
    ]


def test_values_that_say_the_same_are_one_target():
    mapping = mapping_of(VALUES)
    assert len(mapping.targets) == 3
    assert np.unique(mapping.decode(png([[2, 7]]))).size == 1


def test_colours_become_what_they_say_with_and_without_a_palette():
    mapping = mapping_of(COLORS)
    colors = np.uint8([[128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 0]])
    with_palette = Image.fromarray(np.uint8([[0, 1], [2, 3]]), "P")
    with_palette.putpalette(colors.tobytes())
    pixels = colors.reshape(2, 2, 3)
    for label in (png(pixels), png(pixels, "RGBA"), encoded(with_palette)):
        ids = mapping.decode(label)
        assert ids.dtype == np.uint8 and ids.shape == (2, 2)
        building, tree = (("Building",), ()), (("Tree",), ())
        assert said(mapping, ids) == [building, tree, building, None]


def test_every_value_can_be_mapped():
    rows = "\n".join(f"{value},{CAMVID.names[value % 11]}" for value in reversed(range(256)))
    mapping = mapping_of(f"value,class\n{rows}\n")
    label = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert said(mapping, mapping.decode(png(label))) == [
        ((CAMVID.names[value % 11],), ()) for value in range(256)
    ]


def test_possible_classes_are_those_named_and_those_that_may_be_there():
    road, pole, car, pedestrian, bicyclist = map(
        CAMVID.names.index, ("Road", "Pole", "Car", "Pedestrian", "Bicyclist")
    )
    possible = possible_classes(mapping_of(VALUES).targets, len(CAMVID))
    assert [np.flatnonzero(row).tolist() for row in possible] == [
        [road],
        [pole, pedestrian, bicyclist],
        [road, car],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mapping.csv: found the columns nothing; expected value,class or red,green,blue"),
        ("id,name\n0,Road\n", "mapping.csv: found the columns id,name; expected value,class or"),
        ("value,class\n0,Tram\n", "line 2: unknown class 'Tram'; the model has Sky, Building, Po"),
        ("value,class,also\n0,Road,Tram\n", "line 2: unknown class 'Tram'"),
        ("value,class\n0,Road\n00,Sky\n", "line 3: maps 00 a second time; keep one row of each"),
        ("red,green,blue,class\n1,2,3,Sky\n1,2,3,Sky\n", "line 3: maps 1,2,3 a second time"),
        ("value,class\n256,Road\n", "line 2: found 256; expected whole numbers 0..255"),
        ("value,class\nroad,Road\n", "line 2: found road; expected whole numbers 0..255"),
        ("red,green,blue,class\n1,2,-3,Sky\n", "line 2: found 1,2,-3; expected whole numbers"),
        ("value,class\n0\n", "line 2: found 0; expected value,class"),
        ("value,class\n0,Road,Pole\n", "line 2: found 0,Road,Pole; expected value,class"),
        (
            "value,class\n0,\n255,\n",
            "no row maps a label value to a class; expected such as 0,Sky",
        ),
        ("red,green,blue,class\n", "expected such as 0,0,0,Sky below red,green,blue,class"),
        (f"value,class\n0,{'x' * 200_000}\n", "mapping.csv, line 2: field larger than field limit"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_refused_in_one_line(text, message):
    with pytest.raises(ValueError, match=message) as refused:
        mapping_of(text)
    assert len(str(refused.value).splitlines()) == 1


def test_a_file_is_read_with_the_mark_that_spreadsheets_write(tmp_path):
    (tmp_path / "mapping.csv").write_text(VALUES, encoding="utf-8-sig")
    assert LabelMapping.read(tmp_path / "mapping.csv", CAMVID).targets == mapping_of(VALUES).targets


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "mapping.csv").write_bytes(b"value,class\n0,Stra\xdfe\n")
    with pytest.raises(ValueError, match=r"mapping\.csv: no UTF-8 text .*0xdf"):
        LabelMapping.read(tmp_path / "mapping.csv", CAMVID)


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        (VALUES, png([[0, 1], [3, 0]]), "holds value 1, value 3, which mapping.csv does not map"),
        (VALUES, png([range(100, 120)]), "value 103 and 16 others, which mapping.csv does not map"),
        (COLORS, png([[[128, 0, 1]]]), "holds colour 128,0,1, which mapping.csv does not map"),
        (VALUES, png([[[0, 0, 0]]]), "has mode RGB, but mapping.csv maps values"),
        (COLORS, png([[0]]), "has mode L, but mapping.csv maps colours"),
        (VALUES, b"GIF89a", "no PNG image, or its header is damaged: 6 bytes that start with"),
        (VALUES, png(np.zeros((64, 64)))[:50], "damaged image data"),
    ],
)
def test_a_label_that_does_not_fit_is_refused(text, label, message):
    with pytest.raises(ValueError, match=message):
        mapping_of(text).decode(label)
