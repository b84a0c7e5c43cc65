"""SavedModels: the networks in them are those of TensorFlow, and nothing in them is executed."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.engines import devices
from models.graphs import Format, Gives
from models.importing import saved_models
from models.importing.sources import Port
from models.protobufs import parts, texts
from tests.imported_networks import outputs, refusal

GRAPH, DATA = saved_models.GRAPH_FILE, "variables/variables.data-00000-of-00001"

HARMFUL = {
    "WriteFile": lambda ops, file: ops.WriteFile(filename=file, contents="written"),
    "ReadFile": lambda ops, file: ops.ReadFile(filename=file),
    "MatchingFiles": lambda ops, file: ops.MatchingFiles(pattern=file),
    "ImmutableConst": lambda ops, file: ops.ImmutableConst(
        dtype="uint8", shape=[1], memory_region_name=file
    ),
    "PrintV2": lambda ops, file: ops.PrintV2(input="printed", output_stream="file://" + file),
    "DebugIdentityV2": lambda ops, file: ops.DebugIdentityV2(
        input=1.0, debug_urls=["file://" + file]
    ),
    "SaveV2": lambda ops, file: ops.SaveV2(
        prefix=file, tensor_names=["a"], shape_and_slices=[""], tensors=[1.0]
    ),
    "EagerPyFunc": lambda ops, _: ops.EagerPyFunc(input=[], token="none", Tout=["int32"]),
    "PyFunc": lambda ops, _: ops.PyFunc(input=[], token="none", Tout=["int32"]),
}
"""Operations that do more than arithmetic, given TensorFlow's operations and a file."""


@pytest.fixture(scope="module")
def tf():
    devices.import_tensorflow()
    import tensorflow

    return tensorflow


@pytest.fixture(scope="module")
def network(tf):
    """A network of two signatures: scores of photos of any size, and class ids of a fixed one."""

    class Network(tf.Module):
        def __init__(self):
            self.kernel = tf.Variable(
                np.random.default_rng(0).normal(size=(3, 3, 3, 4)), dtype="float32"
            )

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, "photo")])
        def scores(self, photo):
            return {"scores": tf.nn.conv2d(photo, self.kernel, 2, "SAME")}

        @tf.function(input_signature=[tf.TensorSpec((1, 64, 96, 3), tf.float32, "photo")])
        def class_ids(self, photo):
            return {"best": tf.argmax(self.scores(photo)["scores"], -1, output_type="int32")}

    return Network()


@pytest.fixture(scope="module")
def saved(tf, network, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "streets"
    signatures = {"class_ids": network.class_ids, "serving_default": network.scores}
    tf.saved_model.save(network, folder, signatures)
    return folder


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    return shutil.copytree(saved, tmp_path / "streets")


@pytest.fixture
def saving(tf, tmp_path):
    """A function that saves another function of photos as a SavedModel."""

    def save(function) -> Path:
        spec = tf.TensorSpec((1, 8, 8, 3), tf.float32, "photo")
        module = tf.Module()
        module.function = tf.function(function, input_signature=[spec])
        tf.saved_model.save(module, tmp_path / "streets", module.function)
        return tmp_path / "streets"

    return save


def test_the_default_signature_is_imported_with_open_sizes(saved, network, make_photo, tmp_path):
    source = saved_models.read(saved)
    assert source.format is Format.OPENVINO and source.precision == "f32"
    assert source.inputs == (Port("photo", "float32", (None, None, None, 3)),)
    assert source.outputs == (Port("scores", "float32", (None, None, None, 4)),)
    assert source.facts.gives.value is Gives.LOGITS and source.facts.name.value == "streets"
    photo = np.asarray(Image.open(make_photo(tmp_path / "a.png")), np.float32)[None] / 255
    expected = network.scores(photo)["scores"].numpy()
    np.testing.assert_allclose(outputs(source, photo)[0], expected, atol=1e-5)


def test_a_single_signature_is_imported_whatever_its_name(tf, network, tmp_path):
    tf.saved_model.save(network, tmp_path, {"segment": network.class_ids})
    source = saved_models.read(tmp_path)
    assert source.outputs == (Port("best", "int32", (1, 32, 48)),)
    assert (source.facts.gives.value, source.facts.outputs.value) == (Gives.CLASS_IDS, 4)


def test_networks_of_tensorflow_1_are_imported(tf, tmp_path):
    old = tf.compat.v1
    with old.Graph().as_default(), old.Session() as session:
        photo = old.placeholder(tf.float32, (1, None, None, 3), "photo")
        kernel = old.get_variable("kernel", (3, 3, 3, 4), use_resource=False)
        scores = old.nn.conv2d(photo, kernel, strides=1, padding="SAME")
        session.run(old.global_variables_initializer())
        old.saved_model.simple_save(session, str(tmp_path / "a"), {"x": photo}, {"y": scores})
    assert saved_models.read(tmp_path / "a").outputs == (Port("y", "float32", (1, None, None, 4)),)


def test_a_signature_that_is_not_clear_is_asked_for(tf, network, tmp_path):
    tf.saved_model.save(network, tmp_path, {"a": network.class_ids, "b": network.scores})
    assert "has the signatures a, b, expected serving_default" in refusal(
        saved_models.read, tmp_path
    )
    tf.saved_model.save(network, tmp_path / "none")
    assert "has no signature" in refusal(saved_models.read, tmp_path / "none")


def test_only_folders_of_saved_models_match(saved, tmp_path):
    assert saved_models.matches(saved)
    assert not saved_models.matches(saved / GRAPH) and not saved_models.matches(tmp_path)


class TestRefused:
    @pytest.mark.parametrize("operation", HARMFUL)
    def test_what_is_no_arithmetic(self, tf, saving, tmp_path, operation):
        marker = tmp_path / "marker"

        def photo_kept(photo):
            HARMFUL[operation](tf.raw_ops, str(marker))
            return photo * 2

        message = refusal(saved_models.read, saving(photo_kept))
        assert f"the operation '{operation}'" in message and "function" in message
        assert not marker.exists()

    def test_operators_that_tensorflow_does_not_know(self, copy):
        graph = (copy / GRAPH).read_bytes()
        (copy / GRAPH).write_bytes(graph.replace(b"Conv2D", b"Evil2D"))
        assert "'Evil2D'" in refusal(saved_models.read, copy)
        assert "custom operators may run code" in refusal(saved_models.read, copy)

    @pytest.mark.parametrize("name", [GRAPH, DATA, "variables/variables.index"])
    @pytest.mark.parametrize("share", [0, 0.5, 0.95])
    def test_what_is_cut_short(self, copy, name, share):
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[: int(len(content) * share)])
        assert "damaged" in refusal(saved_models.read, copy)

    def test_garbage(self, copy):
        (copy / GRAPH).write_bytes(os.urandom(1 << 16))
        assert "no SavedModel, or damaged" in refusal(saved_models.read, copy)

    def test_missing_variables(self, copy):
        shutil.rmtree(copy / "variables")
        assert "damaged" in refusal(saved_models.read, copy)

    @pytest.mark.parametrize("name", [GRAPH, DATA])
    def test_links_to_what_is_outside(self, copy, tmp_path, name):
        (copy / name).rename(tmp_path / "elsewhere")
        (copy / name).symlink_to(tmp_path / "elsewhere")
        assert "outside the SavedModel" in refusal(saved_models.read, copy)

    @pytest.mark.parametrize(
        "path",
        [(2, 2, 1), (2, 2, 2, 1, 3), (2, 2, 9), (2, 2, 1, 5), (2, 9), (2, 7, 1)],
        ids=["nodes", "of functions", "fields", "attributes", "of the meta graph", "objects"],
    )
    def test_parts_that_take_far_more_memory_than_their_bytes(self, copy, path):
        content = bytes([path[-1] << 3 | 2, 0]) * 20_000_000
        for number in reversed(path[:-1]):
            content = bytes([number << 3 | 2]) + _varint(len(content)) + content
        (copy / GRAPH).write_bytes(content)
        assert "damaged" in refusal(saved_models.read, copy)


def _varint(value: int) -> bytes:
    more = []
    while value > 0x7F:
        more.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*more, value])


class TestParts:
    def test_parts_are_found_at_their_path(self):
        inner = b"\x0a\x03abc\x08\xac\x02\x0a\x01d\x11" + bytes(8) + b"\x1d" + bytes(4)
        message = memoryview(b"\x12" + _varint(len(inner)) + inner)
        assert texts(message, 2, 1) == ["abc", "d"]
        assert list(parts(message, 3)) == []

    @pytest.mark.parametrize(
        "message", [b"\x0a", b"\x0a\x05abc", b"\x08", b"\x08" + b"\xff" * 11, b"\x0b", b"\x09abc"]
    )
    def test_damage_is_told(self, message):
        with pytest.raises(ValueError):
            list(parts(memoryview(message), 1))
