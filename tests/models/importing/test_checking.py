"""Networks that were understood wrongly: labelled photos tell the option that mends it."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from models.classes import ClassTable
from models.graphs import Channels, Format
from models.importing import checking
from models.importing.checking import MOST_PHOTOS, check
from models.importing.making import PHOTO, Imported, try_out
from models.importing.settling import Wishes, settle
from models.importing.sources import Fact, Facts, ModelImportError, Port, Source
from pipeline import console

NAMES = ("Red thing", "Green thing", "Blue thing")
COLORS = ((230, 40, 40), (40, 230, 40), (40, 40, 230))
SIZE = (64, 32)
RAW = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}
FROM_0_TO_1 = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """Photos of red, green and blue fields, and their labels."""
    folder = tmp_path_factory.mktemp("labelled")
    random = np.random.default_rng(0)
    for kind in ("val", "valannot"):
        (folder / kind).mkdir()
    for number in range(4):
        label = random.integers(0, 3, (2, 4), np.uint8).repeat(16, 0).repeat(16, 1)
        Image.fromarray(np.array(COLORS, np.uint8)[label]).save(folder / "val" / f"{number}.png")
        Image.fromarray(label).save(folder / "valannot" / f"{number}.png")
    return folder


def looking_at(*classes: tuple[float, float, float], bias=None, ids: bool = False) -> bytes:
    """A network whose score of each class is a sum of weighted colours."""
    weights = np.array(classes, np.float32)[:, :, None, None]
    biases = np.array(bias or [0] * len(classes), np.float32)
    nodes = [helper.make_node("Conv", ["photo", "weights", "biases"], ["scores"])]
    if ids:
        nodes.append(helper.make_node("ArgMax", ["scores"], ["ids"], axis=1, keepdims=0))
    output = ("ids", TensorProto.INT64, [1, *SIZE[::-1]])
    if not ids:
        output = ("scores", TensorProto.FLOAT, [1, len(classes), *SIZE[::-1]])
    graph = helper.make_graph(
        nodes,
        "looking",
        [helper.make_tensor_value_info("photo", TensorProto.FLOAT, [1, 3, *SIZE[::-1]])],
        [helper.make_tensor_value_info(*output)],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(biases, "biases")],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, ir_version=8, opset_imports=opsets).SerializeToString()


def imported(content: bytes, outputs: int | None = 3, background=None, **facts) -> Imported:
    rows, columns = SIZE[::-1]
    port = Port("ids", "int64", (1, rows, columns))
    if outputs:
        port = Port("scores", "float32", (1, outputs, rows, columns))
    stated = {"class_names": NAMES, "colors": COLORS, **FROM_0_TO_1, **facts}
    source = Source(
        format=Format.ONNX,
        precision="f32",
        files={"network.onnx": content},
        inputs=(Port("photo", "float32", (1, 3, rows, columns)),),
        outputs=(port,),
        facts=Facts(**{name: Fact(value, "test") for name, value in stated.items()}),
    )
    wishes = Wishes(background=background)
    return try_out(source, settle(source, wishes, "made"), Image.open(PHOTO))


RED, GREEN, BLUE = (1, 0, 0), (0, 1, 0), (0, 0, 1)


def test_a_network_that_is_understood_has_no_better_variant(labelled, capsys):
    tried = check(imported(looking_at(RED, GREEN, BLUE)), str(labelled), "val", None)
    assert tried[0].options == "" and tried[0].metrics.miou == pytest.approx(1)
    assert [each.metrics.miou for each in tried[1:]] == sorted(
        (each.metrics.miou for each in tried[1:]), reverse=True
    )
    console.print_tried(tried)
    printed = capsys.readouterr().out
    assert "as understood" in printed and "1.0000" in printed
    assert "Nothing that was tried is better on 4 labelled photos." in printed


def test_swapped_colours_are_found(labelled, capsys):
    tried = check(imported(looking_at(BLUE, GREEN, RED)), str(labelled), "val", None)
    assert tried[0].metrics.miou < 0.5
    assert (tried[1].options, tried[1].metrics.miou) == ("--channels BGR", pytest.approx(1))
    console.print_tried(tried)
    assert "Better on 4 labelled photos: import again with --channels BGR." in (
        " ".join(capsys.readouterr().out.split())
    )
    turned = imported(looking_at(BLUE, GREEN, RED), channels=Channels.BGR)
    assert check(turned, str(labelled), "val", None)[0].metrics.miou == pytest.approx(1)


def test_missing_normalisation_is_found(labelled):
    """A network for the bytes of photos: with less, its bias hides what it sees."""
    network = looking_at(RED, GREEN, BLUE, bias=(0, 0, 100))
    tried = check(imported(network), str(labelled), "val", None)
    assert tried[0].metrics.miou < 0.5
    assert tried[1].options == "--mean 0,0,0 --std 0.00392157,0.00392157,0.00392157"
    assert tried[1].metrics.miou == pytest.approx(1)
    raw = check(imported(network, **RAW), str(labelled), "val", None)
    assert raw[0].metrics.miou == pytest.approx(1)
    assert not any(each.options == tried[1].options for each in raw)


def test_scores_that_begin_with_one_of_no_class_are_found(labelled):
    nothing = (-1, -1, -1)
    network = looking_at(nothing, RED, GREEN, BLUE)
    tried = check(imported(network, outputs=4), str(labelled), "val", None)
    assert tried[0].metrics.miou < 0.5
    assert (tried[1].options, tried[1].metrics.miou) == ("--background first", pytest.approx(1))
    first = check(imported(network, outputs=4, background="first"), str(labelled), "val", None)
    assert first[0].metrics.miou == pytest.approx(1)
    assert "--background last" in {each.options for each in first}


def test_class_ids_that_begin_with_one_of_no_class_are_found(labelled):
    """It gives the ids 1 and 2 here; as they are understood, they are a class too high."""
    network = looking_at((-1, -1, -1), (1, 1, 0), BLUE, ids=True)
    names = {"class_names": NAMES[:2], "colors": COLORS[:2]}
    with pytest.raises(ModelImportError, match="--background"):
        imported(network, outputs=None, **names)
    four = looking_at((-1, -1, -1), RED, GREEN, (-9, -9, -9), ids=True)
    tried = check(imported(four, outputs=None), str(labelled), "val", None)
    assert tried[1].options == "--background first"
    assert tried[1].metrics.miou > tried[0].metrics.miou + 0.3
    first = check(imported(four, outputs=None, background="first"), str(labelled), "val", None)
    assert first[0].metrics.miou == pytest.approx(tried[1].metrics.miou)


def test_labels_of_another_class_set_are_compared_by_what_they_have_in_common(labelled):
    """The labels have a class that the network lacks."""
    labels = ClassTable.of(
        [*zip(NAMES[:2], COLORS, strict=False), ("Ultraviolet", (9, 9, 9))],
    )
    two = looking_at(RED, GREEN)
    network = imported(two, 2, class_names=NAMES[:2], colors=COLORS[:2])
    tried = check(network, str(labelled), "val", labels)
    assert tried[0].metrics.miou == pytest.approx(1)
    assert tried[0].metrics.names == NAMES[:2]


def test_labels_with_nothing_in_common_are_refused(labelled):
    other = ClassTable.of([(f"thing {n}", (n, n, n)) for n in range(3)])
    with pytest.raises(ValueError, match="nothing in common"):
        check(imported(looking_at(RED, GREEN, BLUE)), str(labelled), "val", other)


def test_a_folder_without_labelled_photos_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        check(imported(looking_at(RED, GREEN, BLUE)), str(tmp_path), "val", None)


def test_few_photos_of_many_are_tried_spread_evenly(labelled, monkeypatch):
    monkeypatch.setattr(checking, "MOST_PHOTOS", 2)
    assert MOST_PHOTOS > 2
    tried = check(imported(looking_at(RED, GREEN, BLUE)), str(labelled), "val", None)
    assert {each.metrics.images for each in tried} == {2}
