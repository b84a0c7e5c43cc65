import pytest

from models.classes import CAMVID, CLASS_SETS, ClassTable, SegmentationClass

COCO_REMOVED = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
"""Label ids of the things of COCO that no image shows, such as the street sign."""


def write(path, *rows, header="name,red,green,blue"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "count", "first", "label_ids"),
    [
        ("camvid", 11, "Sky", range(11)),
        ("cityscapes", 19, "road", [*range(7, 9), *range(11, 14), 17, *range(19, 29), 31, 32, 33]),
        ("ade20k", 150, "wall", range(1, 151)),
        ("mapillary-vistas", 66, "Bird", range(66)),
        ("mapillary-vistas-2", 124, "Bird", range(124)),
        ("coco-stuff", 171, "person", [n for n in range(182) if n not in COCO_REMOVED]),
        ("pascal-voc", 21, "background", range(21)),
    ],
)
def test_class_sets_come_with_the_program(name, count, first, label_ids):
    table = ClassTable.load(name)
    assert len(table) == count and table.names[0] == first
    assert list(table.label_ids) == list(label_ids)
    assert (CLASS_SETS / f"{name}.csv").is_file()


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("mapillary-vistas", {13: "Road", 15: "Sidewalk", 27: "Sky", 55: "Car", 65: "Unlabeled"}),
        ("mapillary-vistas-2", {21: "Road", 24: "Sidewalk", 61: "Sky", 108: "Car"}),
        ("coco-stuff", {2: "car", 137: "road", 145: "sky-other", 170: "wood"}),
        ("pascal-voc", {7: "car", 15: "person", 20: "tvmonitor"}),
    ],
)
def test_classes_stand_where_networks_have_them(name, some):
    names = ClassTable.load(name).names
    assert {position: names[position] for position in some} == some


def test_both_versions_of_vistas_colour_alike_what_they_both_have():
    first, second = (
        {entry.key: entry.color for entry in ClassTable.load(f"mapillary-vistas{version}").classes}
        for version in ("", "-2")
    )
    shared = first.keys() & second.keys()
    assert len(shared) == 63
    differ = {key for key in shared if first[key] != second[key]}
    assert differ == {
        "service_lane",
        "traffic_sign_frame",
        "traffic_sign__back_",
        "traffic_sign__front_",
        "lane_marking___crosswalk",
    }
    # Version 2 itself has another colour for the last, and shares those of the others.
    assert all(first[key][:2] == second[key][:2] for key in differ - {"lane_marking___crosswalk"})


def test_a_table_of_ones_own_is_read_from_its_file(tmp_path):
    file = write(tmp_path / "two.csv", "Road,128,64,128", "Not road,0,0,0")
    table = ClassTable.load(file)
    assert table.names == ("Road", "Not road")
    assert table.keys == ("road", "not_road")
    assert table.label_ids == (0, 1)


def test_label_ids_of_a_file_are_kept(tmp_path):
    file = write(
        tmp_path / "a.csv", "Road,1,1,1,7", "Sky,2,2,2,23", header="name,red,green,blue,label_id"
    )
    table = ClassTable.read(file)
    assert table.label_ids == (7, 23)
    palette = table.palette(table.label_ids)
    assert len(palette) == 768
    assert palette[21:24] == bytes([1, 1, 1]) and palette[69:72] == bytes([2, 2, 2])
    assert table.palette()[:6] == bytes([1, 1, 1, 2, 2, 2])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["Road,1,1,1", "road,2,2,2"], "name given twice: road"),
        (["Road,1,1,1", "Sky,1,1,1"], r"colour given twice: \(1, 1, 1\)"),
        (["Road,1,1,256"], "three values 0..255"),
        (["Road,1,1,x"], "line 2: found .*whole numbers"),
        ([], "1 to 255 classes, not 0"),
    ],
)
def test_a_bad_table_is_refused_with_the_file(tmp_path, rows, message):
    file = write(tmp_path / "bad.csv", *rows)
    with pytest.raises(ValueError, match=message) as caught:
        ClassTable.read(file)
    assert str(file) in str(caught.value)


def test_label_ids_are_given_once_and_leave_255_free():
    with pytest.raises(ValueError, match="label id given twice: 1"):
        ClassTable((SegmentationClass("a", (1, 1, 1), 1), SegmentationClass("b", (2, 2, 2))))
    with pytest.raises(ValueError, match="label id 255 is not 0..254"):
        ClassTable((SegmentationClass("a", (1, 1, 1), 255),))


def test_other_columns_and_unknown_sets_are_refused(tmp_path):
    with pytest.raises(ValueError, match="found the columns"):
        ClassTable.read(write(tmp_path / "a.csv", header="class,color"))
    with pytest.raises(ValueError, match="neither a class set .*ade20k, camvid, cityscapes"):
        ClassTable.load("pascal")


def test_two_hundred_and_fifty_five_classes_are_the_most():
    colors = [(f"c{i}", (i, 0, 0)) for i in range(255)]
    assert len(ClassTable.of(colors)) == 255
    with pytest.raises(ValueError, match="1 to 255 classes"):
        ClassTable.of([*colors, ("one more", (0, 1, 0))])


def test_camvid_is_in_the_order_of_its_labels():
    assert CAMVID.names[:4] == ("Sky", "Building", "Pole", "Road")
