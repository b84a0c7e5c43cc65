"""Packages of imported networks: what `model.json` says of a graph, and what is refused."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from models.classes import ClassTable
from models.graphs import (
    Channels,
    Format,
    Gives,
    Graph,
    GraphInput,
    GraphOutput,
    Layout,
    Resize,
)
from models.packages import (
    DESCRIPTION_FILE,
    SCHEMA,
    SHIPPED,
    ModelDescription,
    PackageError,
    files_of,
    load_package,
    shipped_names,
    write_graph,
)
from tests.onnx_models import segmenting

FILE = "network.onnx"
CONTENT = segmenting().SerializeToString()
PHOTO = GraphInput("photo", "float32", Layout.NCHW, Channels.BGR, True, Resize.STRETCH, 0.5, 3)
SCORES = GraphOutput("scores", Layout.NHWC, Gives.PROBABILITIES, 4, (1, 3, 0), 0.25, -7)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def described(content: bytes = CONTENT, **changes) -> ModelDescription:
    description = ModelDescription(
        name="made",
        architecture="a convolution",
        width=1.0,
        input_height=64,
        input_width=96,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.3, 0.4),
        classes=ClassTable.of([(f"class {one}", (one, one, one)) for one in range(3)]),
        training={"licence": "none"},
        metrics={},
        graph=Graph(Format.ONNX, "f16", {FILE: digest(content)}, PHOTO, SCORES),
    )
    return replace(description, **changes)


@pytest.fixture
def package(tmp_path) -> Path:
    return write_graph(tmp_path / "package", described(), {FILE: CONTENT}).path


def describe(package: Path, *path: str, **changes) -> None:
    """Change values of the description, at its top or at a path within it."""
    file = package / DESCRIPTION_FILE
    document = json.loads(file.read_text())
    part = document
    for key in path:
        part = part[key]
    part |= changes
    file.write_text(json.dumps(document))


def refused(package: Path, *parts: str) -> None:
    with pytest.raises(PackageError) as caught:
        load_package(package)
    message = str(caught.value)
    assert message.startswith(str(package)) and "\n" not in message
    for part in parts:
        assert part in message


def test_a_graph_is_read_as_it_was_written(package):
    found = load_package(package)
    assert {name: getattr(found, name) for name in vars(described())} == vars(described())
    assert found.read_graph() == (CONTENT,)
    assert found.files == (FILE, DESCRIPTION_FILE) and files_of(package) == (FILE,)
    assert found.network_bytes == len(CONTENT)
    with pytest.raises(PackageError, match="an imported onnx network"):
        found.build_network()


def test_the_fingerprint_is_that_of_network_and_description(package, tmp_path):
    fingerprint = load_package(package).fingerprint
    copy = shutil.copytree(package, tmp_path / "copy")
    (copy / "overlay.jpg").write_bytes(b"for people")
    describe(copy, precisions={"bf16": {"loss": 0.01}}, networks=[])
    assert load_package(copy).fingerprint == fingerprint
    others = [
        (described(), segmenting(name="another").SerializeToString()),
        (described(mean=(0.5, 0.5, 0.5)), CONTENT),
        (replace_input(channels=Channels.RGB), CONTENT),
        (replace_input(resize=Resize.PAD), CONTENT),
    ]
    found = {fingerprint}
    for number, (description, content) in enumerate(others):
        graph = replace(description.graph, files={FILE: digest(content)})
        written = write_graph(
            tmp_path / str(number), replace(description, graph=graph), {FILE: content}
        )
        found.add(written.fingerprint)
    assert len(found) == 1 + len(others)


def replace_input(**changes) -> ModelDescription:
    described_ = described()
    graph = replace(described_.graph, input=replace(PHOTO, **changes))
    return replace(described_, graph=graph)


def test_the_size_of_photos_is_the_graphs(tmp_path):
    padded = replace_input(resize=Resize.PAD, open=False)
    size = write_graph(tmp_path, padded, {FILE: CONTENT}).input_size
    assert (size.width, size.height, size.resize, size.open) == (96, 64, Resize.PAD, False)
    assert size.padding == (128, 102, 76)


@pytest.mark.parametrize("mean", [-0.5, 2.0])
def test_padding_is_a_colour_whatever_the_mean(tmp_path, mean):
    package = write_graph(tmp_path, described(mean=(mean,) * 3), {FILE: CONTENT})
    assert package.input_size.padding == ((255 if mean > 0 else 0),) * 3


@pytest.mark.parametrize("share", [0, 0.5, 1.1])
def test_a_network_that_was_changed_is_refused(package, share):
    changed = (CONTENT * 2)[: int(len(CONTENT) * share)]
    loaded = load_package(package)
    (package / FILE).write_bytes(changed)
    refused(package, f"{FILE}: {len(changed)} bytes with another SHA-256", "copy the package again")
    with pytest.raises(PackageError, match="another SHA-256"):
        loaded.read_graph()


def test_a_network_that_is_missing_is_named(package):
    (package / FILE).unlink()
    refused(package, f"no {FILE}; a model package needs it")


@pytest.mark.parametrize("name", ["model.weights.h5", "network.xml", "other.onnx", "run.py"])
def test_files_that_are_not_the_networks_are_refused(package, name):
    (package / name).write_bytes(b"anything")
    refused(package, f"found {name}; a model package holds model.json, network.onnx")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"network.tflite": "0" * 64}, "format onnx, expected one .onnx file"),
        ({"a.onnx": "0" * 64, "b.onnx": "0" * 64}, "expected one .onnx file"),
        ({"../network.onnx": "0" * 64}, "expected a file name without a folder"),
        ({"/etc/network.onnx": "0" * 64}, "expected a file name without a folder"),
        ({".onnx": "0" * 64}, "expected a file name without a folder"),
        ({"a\\b.onnx": "0" * 64}, "expected a file name without a folder"),
        ({FILE: "0" * 63}, "expected a SHA-256 of 64 hexadecimal digits"),
        ({}, "graph.files {}, expected an object of SHA-256 by file name"),
        ([FILE], "expected an object of SHA-256"),
    ],
)
def test_files_that_make_no_network_are_refused(package, files, said):
    describe(package, "graph", files=files)
    refused(package, said)
    with pytest.raises(PackageError):
        files_of(package)


def test_an_ir_has_two_files(package):
    describe(package, "graph", format="openvino", files={"network.xml": "0" * 64})
    refused(package, "expected one .xml and one .bin file")


@pytest.mark.parametrize(
    ("path", "changes", "said"),
    [
        (["graph"], {"format": "pickle"}, "'pickle', expected openvino, onnx or tflite"),
        (["graph"], {"precision": "f64"}, "'f64', expected f32, f16 or int8"),
        (["graph"], {"input": None}, "graph.input None, expected an object with name, dtype"),
        (["graph", "input"], {"dtype": "float64"}, "graph.input.dtype 'float64', expected uint8"),
        (["graph", "input"], {"layout": "CHW"}, "'CHW'"),
        (["graph", "input"], {"channels": "RGBA"}, "'RGBA', expected RGB or BGR"),
        (["graph", "input"], {"open": 1}, "graph.input.open 1, expected true or false"),
        (["graph", "input"], {"resize": "crop"}, "'crop', expected stretch, keep-aspect or pad"),
        (["graph", "input"], {"scale": 0}, "graph.input.scale 0, expected a number above 0"),
        (["graph", "input"], {"zero_point": 0.5}, "a whole number from -255 to 255"),
        (["graph", "input"], {"zero_point": 1.0}, "a whole number from -255 to 255"),
        (["graph", "input"], {"crop": 1}, "expected an object with name, dtype"),
        (["graph", "output"], {"more": 1}, "expected an object with name, layout, gives"),
        (["graph", "output"], {"gives": "masks"}, "'masks', expected logits, probabilities or"),
        (["graph", "output"], {"outputs": 0}, "graph.output.outputs 0"),
        (["graph", "output"], {"channels": []}, "expected a list of whole numbers"),
        (["graph", "output"], {"channels": [1, 1, 0]}, "expected a list of whole numbers"),
        (["graph", "output"], {"channels": [0.0, 1.0, 2.0]}, "expected a whole number"),
        (["graph", "output"], {"channels": [0, 1, 4]}, "[0, 1, 4] of 3 classes"),
        (["graph", "output"], {"channels": [0, 1]}, "one for each class, below 4"),
        (
            ["graph", "output"],
            {"gives": "class ids", "outputs": 400, "channels": [0, 1, 300]},
            "[0, 1, 300] of 3 classes, expected one for each class, below 255",
        ),
        (["graph", "output"], {"outputs": 1}, "3 classes for the one output of a network"),
        (["graph", "input"], {"resize": "keep-aspect", "open": False}, "choose stretch or pad"),
        ([], {"weights_sha256": "0" * 64}, "found weights_sha256 and a graph; leave one"),
        ([], {"input_width": 100}, "100x64 of a network that takes any size, expected multiples"),
        ([], {"input_width": 96.0}, "input_width 96.0, expected 1 to 16384 pixels"),
        ([], {"input_width": 8192, "input_height": 8192}, "expected at most 8388608"),
        ([], {"outputs": 4}, "3 classes for a network with 4 outputs"),
    ],
)
def test_a_graph_that_makes_no_sense_is_refused(package, path, changes, said):
    describe(package, *path, **changes)
    refused(package, f"{DESCRIPTION_FILE}: ", said)


@pytest.mark.parametrize("gives", [Gives.LOGITS, Gives.PROBABILITIES])
def test_one_output_is_of_two_classes(tmp_path, gives):
    graph = described().graph
    output = replace(SCORES, gives=gives, outputs=1, channels=(0, 1))
    two = described(
        classes=ClassTable.of([("Other", (0, 0, 0)), ("Road", (9, 9, 9))]),
        graph=replace(graph, output=output),
    )
    assert write_graph(tmp_path, two, {FILE: CONTENT}).graph.output == output


def test_a_graph_without_its_parts_is_refused(package):
    describe(package, graph={"format": "onnx"})
    refused(package, "expected an object with format, precision, files, input and output")


@pytest.mark.parametrize("name", shipped_names())
def test_the_schema_describes_the_shipped_models(name):
    document = json.loads((SHIPPED / name / DESCRIPTION_FILE).read_text())
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    older = {key: value for key, value in document.items() if key not in ("networks", "precisions")}
    jsonschema.validate(older | {"format_version": 1}, schema)


def test_the_schema_describes_packages_of_graphs(package):
    document = json.loads((package / DESCRIPTION_FILE).read_text())
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(document, schema)
    del document["graph"]["output"]["gives"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


def test_a_description_of_format_1_has_the_fingerprint_that_it_always_had(tiny_model, tmp_path):
    """It is that of the text of the file and the weights."""
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    file = copy / DESCRIPTION_FILE
    document = json.loads(file.read_text())
    older = {key: value for key, value in document.items() if key not in ("networks", "precisions")}
    file.write_text(json.dumps(older | {"format_version": 1}, indent=4))
    content = file.read_bytes() + (copy / "model.weights.h5").read_bytes()
    assert load_package(copy).fingerprint == hashlib.sha256(content).hexdigest()


def test_weights_in_other_files_are_refused_however_the_package_was_made(tmp_path):
    """Libraries may look for them from the folder that the program was started in."""
    import onnx

    model = onnx.ModelProto.FromString(CONTENT)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../../etc/passwd")
    content = model.SerializeToString()
    graph = replace(described().graph, files={FILE: digest(content)})
    package = write_graph(tmp_path / "made", described(graph=graph), {FILE: content})
    with pytest.raises(PackageError, match=r"network\.onnx: it keeps weights in other files"):
        package.read_graph()
