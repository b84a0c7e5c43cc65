"""`citymask evaluate` on several data sets, with mappings of their labels."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.evaluation import MEASURES

MAPPINGS = Path(__file__).resolve().parents[2] / "examples" / "mappings"
SKY, TREE, ROAD = range(3)
MAPPING = "value,class,also\n10,Road,\n20,Sky|Tree top,Road\n30,,\n"


@pytest.fixture(scope="module")
def data_sets(make_photo, tmp_path_factory):
    """`plain` has labels of class ids, `mapped` of the values of `mapping.csv`; two photos each."""
    folder, random = tmp_path_factory.mktemp("data sets"), np.random.default_rng(3)
    (folder / "mapping.csv").write_text(MAPPING)
    for name, values in (("plain", (SKY, TREE, ROAD)), ("mapped", (10, 20, 30))):
        (folder / name / "valannot").mkdir(parents=True)
        for seed in range(2):
            make_photo(folder / name / "val" / f"{seed}.jpg", seed=seed + 2 * len(values))
            label = random.choice(values, (4, 6)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
            Image.fromarray(label).save(folder / name / "valannot" / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def evaluate(citymask, data_sets, tiny_model):
    """A function that evaluates the tiny model and expects an exit code."""

    def evaluate(*data, code=0):
        arguments = [f"--data={entry}" for entry in data if not str(entry).startswith("--")]
        arguments += [entry for entry in data if str(entry).startswith("--")]
        done = citymask("evaluate", "--model", tiny_model, *arguments)
        assert done.exit_code == code, done.output
        return done.output

    return evaluate


def test_labels_of_a_mapping_are_compared_by_its_groups(
    evaluate, citymask, data_sets, tiny_model, tmp_path
):
    mapped = f"{data_sets}/mapped:{data_sets}/mapping.csv"
    output = evaluate(mapped, f"--json={tmp_path}/one.json")
    found = json.loads((tmp_path / "one.json").read_text())
    run = citymask(
        "run", data_sets / "mapped" / "val", "--output", tmp_path / "out", "--model", tiny_model
    )
    assert run.exit_code == 0, run.output
    right = road = road_found = labelled = 0
    for seed in range(2):
        label = np.array(Image.open(data_sets / "mapped" / "valannot" / f"{seed}.png"))
        mask = np.array(Image.open(tmp_path / "out" / "masks" / f"{seed}.jpg.png"))
        is_road, known = label == 10, label != 30
        right += np.sum(((mask == ROAD) == is_road)[known])
        road_found += np.sum((mask == ROAD) & is_road)
        road += np.sum(((mask == ROAD) | is_road) & known)
        labelled += np.sum(known)
    assert [entry["name"] for entry in found["classes"]] == ["Road", "Sky|Tree top"]
    assert found["pixel_accuracy"] == pytest.approx(right / labelled)
    assert found["classes"][0]["iou"] == pytest.approx(road_found / road)
    assert "Sky|Tree top" in output and "mIoU" in output


def test_several_data_sets_give_a_row_each_with_mean_and_spread(evaluate, data_sets, tmp_path):
    plain, mapped = f"{data_sets}/plain", f"{data_sets}/mapped:{data_sets}/mapping.csv"
    output = evaluate(plain, f"far away={mapped}", f"--json={tmp_path}/all.json")
    found = json.loads((tmp_path / "all.json").read_text())
    alone = []
    for number, data in enumerate((plain, mapped)):
        evaluate(data, f"--json={tmp_path}/{number}.json")
        alone.append(json.loads((tmp_path / f"{number}.json").read_text()))
    names = ["plain", "far away"]
    assert found["data_sets"] == [
        {"name": name, **of} for name, of in zip(names, alone, strict=True)
    ]
    for measure in MEASURES:
        values = [of[measure] for of in alone]
        assert found["mean"][measure] == pytest.approx(statistics.mean(values))
        assert found["spread"][measure] == pytest.approx(statistics.stdev(values))
        row = next(line for line in output.splitlines() if "far away" in line)
        assert f"{alone[1][measure]:.4f}" in row and " 2 " in row
    assert f"{found['mean']['miou']:.4f}" in output
    assert "Sky|Tree top" in output


def test_what_a_mapping_does_not_name_is_said(evaluate, data_sets, tmp_path):
    (tmp_path / "roads.csv").write_text("value,class\n10,Road\n20,\n30,\n")
    data = (f"{data_sets}/plain", f"{data_sets}/mapped:{tmp_path}/roads.csv")
    output = " ".join(evaluate(*data).split())
    assert output.count("Not among the labels' classes, so wrong where predicted") == 1
    assert "wrong where predicted: Sky, Tree top." in output


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("value,class\n10,Tram\n", "line 2: unknown class 'Tram'; the model has Sky, Tree top, R"),
        ("value,class\n10,\n", "no row maps a label value to a class"),
        ("value,class\n10,Road\n10,Sky\n", "line 3: maps 10 a second time"),
        ("value,class\n99,Road\n", r"valannot/0.png: holds value 10, value 20, value 30, which "),
        ("value,class\n10,\n20,\n30,\n99,Sky\n", "valannot: the labels of 2 photos hold no pixel"),
        ("red,green,blue,class\n1,2,3,Sky\n", "valannot/0.png: has mode L, but "),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_in_one_line(
    evaluate, data_sets, tmp_path, mapping, message
):
    (tmp_path / "wrong.csv").write_text(mapping)
    output = evaluate(f"{data_sets}/plain", f"{data_sets}/mapped:{tmp_path}/wrong.csv", code=2)
    assert message in output and len(output.splitlines()) == 1


def test_labels_of_another_size_are_refused_in_one_line(evaluate, data_sets, tmp_path):
    for folder in ("val", "valannot"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (96, 64)).save(tmp_path / "val" / "a.png")
    Image.new("L", (48, 32), 10).save(tmp_path / "valannot" / "a.png")
    output = evaluate(f"{tmp_path}:{data_sets}/mapping.csv", code=2)
    assert "valannot/a.png: is 48x32, but" in output and len(output.splitlines()) == 1


def test_classes_that_do_not_meet_are_refused_with_the_folder(evaluate, data_sets, tmp_path):
    (tmp_path / "classes.csv").write_text("name,red,green,blue\nLeft,1,1,1\nRight,2,2,2\n")
    output = evaluate(f"{data_sets}/plain", f"here={tmp_path}", code=2)
    assert f"{tmp_path}: the labels have the classes Left, Right" in output
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (("{}/plain", "x={}/mapped", "--confusion=c.csv"), "--confusion goes with one data set"),
        (("{}/mapped:{}/mapping.csv", "--classes=camvid"), "--classes goes with labels without"),
        (("{}/plain", "{}/plain"), "several data sets are called 'plain'"),
        (("{}/mapped:{}/mapping.csv:2",), "weights are for a training only"),
    ],
)
def test_statements_that_contradict_each_other_are_refused(evaluate, data_sets, data, message):
    output = evaluate(*(entry.replace("{}", str(data_sets)) for entry in data), code=2)
    assert message in output


@pytest.mark.parametrize("data", [("plain", "mapped"), ("plain:mapping.csv",)])
def test_masks_are_compared_with_one_folder_of_class_ids(citymask, data_sets, data):
    arguments = [f"--data={data_sets}/{entry}" for entry in data]
    done = citymask("evaluate", "--masks", data_sets / "plain" / "valannot", *arguments)
    assert done.exit_code == 2
    assert "Several data sets and mappings go with a model" in done.output


@pytest.mark.parametrize(
    ("name", "photos", "groups"),
    [
        ("facades", 740, ["Building", "Tree", "Sky", "Road", "Pavement", "Car"]),
        (
            "idd_lite",
            1403,
            [
                "Road",
                "Pavement",
                "Pedestrian|Bicyclist",
                "Car",
                "Pole|SignSymbol|Fence",
                "Building|Tree",
                "Sky",
            ],
        ),
    ],
)
def test_the_mappings_of_the_examples_fit_their_data(
    citymask, shared_data, tmp_path, name, photos, groups
):
    """The default model on a few photos of other places is right more often than not."""
    found = sorted((shared_data / name / "photos").iterdir())
    assert len(found) == photos
    for folder in ("val", "valannot"):
        (tmp_path / folder).mkdir()
    for photo in found[:: photos // 6]:
        label = shared_data / name / "labels" / f"{photo.stem}.png"
        (tmp_path / "val" / photo.name).symlink_to(photo)
        (tmp_path / "valannot" / label.name).symlink_to(label)
    data = f"--data={tmp_path}:{MAPPINGS}/{name}.csv"
    done = citymask("evaluate", data, f"--json={tmp_path}/found.json")
    assert done.exit_code == 0, done.output
    metrics = json.loads((tmp_path / "found.json").read_text())
    assert [entry["name"] for entry in metrics["classes"]] == groups
    assert metrics["pixel_accuracy"] > 0.5
