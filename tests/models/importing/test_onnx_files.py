"""ONNX files: what they tell, and that hostile ones are refused without harm."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from models.graphs import Channels, Format, Gives
from models.importing.onnx_files import FILE, matches, read
from models.importing.sources import ModelImportError, Port, Source
from tests.onnx_models import OPSETS, kernel, segmenting
from tests.peak_memory import peak_memory


def written(folder: Path, model: onnx.ModelProto | bytes) -> Path:
    file = folder / "model.onnx"
    file.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return file


def refusal(file: Path) -> str:
    """The one line with which a file is refused, without taking memory for it."""
    with peak_memory() as grown, pytest.raises(ModelImportError) as caught:
        read(file)
    assert not grown or grown[0] < 64 << 20
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)
    return str(caught.value)


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def argmax(axis: int = 1, **arguments: int) -> onnx.NodeProto:
    return helper.make_node("ArgMax", ["scores"], ["best"], axis=axis, **arguments)


class TestPorts:
    def test_names_types_and_sizes_are_those_of_the_file(self, tmp_path):
        file = written(tmp_path, segmenting(photo=(1, 3, 64, "W")))
        source = read(file)
        assert source.format is Format.ONNX and source.precision == "f32"
        assert source.files == {FILE: file.read_bytes()}
        assert source.inputs == (Port("photo", "float32", (1, 3, 64, None)),)
        assert source.outputs == (Port("scores", "float32", (1, 3, 16, None)),)

    def test_sizes_that_the_file_leaves_open_are_inferred(self, tmp_path):
        model = segmenting(shape=("a", "b", "c", "d"), photo=("N", 3, 32, 64))
        assert read(written(tmp_path, model)).outputs[0].shape == (None, 3, 8, 16)

    def test_weights_that_old_files_list_as_inputs_are_none(self, tmp_path):
        model = segmenting()
        model.ir_version = 3
        weights = helper.make_tensor_value_info("kernel", TensorProto.FLOAT, kernel().shape)
        model.graph.input.append(weights)
        assert [port.name for port in read(written(tmp_path, model)).inputs] == ["photo"]

    @pytest.mark.parametrize("classes", [3, 100])
    def test_weights_may_be_constants(self, tmp_path, classes):
        model = segmenting(shape=("N", classes, "h", "w"))
        del model.graph.initializer[:]
        value = numpy_helper.from_array(kernel(classes))
        constant = helper.make_node("Constant", [], ["kernel"], value=value)
        model.graph.node.insert(0, constant)
        source = read(written(tmp_path, model))
        assert [port.name for port in source.inputs] == ["photo"]
        assert source.facts.gives.value is Gives.LOGITS

    @pytest.mark.parametrize("zero", [["zero"], []])
    def test_quantised_ones_tell_what_their_numbers_stand_for(self, tmp_path, zero):
        model = segmenting(
            helper.make_node("QuantizeLinear", ["scores", "step", *zero], ["out"]),
            output="out",
            dtype=TensorProto.UINT8,
            initializers=[
                numpy_helper.from_array(np.float32(0.25), "step"),
                numpy_helper.from_array(np.uint8(3), "zero"),
            ],
        )
        model.graph.node.insert(
            0, helper.make_node("DequantizeLinear", ["bytes", "step", "zero"], ["photo"])
        )
        model.graph.input[0].name = "bytes"
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
        source = read(written(tmp_path, model))
        assert source.inputs == (Port("bytes", "uint8", (None, 3, None, None), 0.25, 3),)
        assert source.outputs == (
            Port("out", "uint8", (None, 3, None, None), 0.25, 3 if zero else 0),
        )

    def test_an_output_of_unknown_rank_is_refused(self, tmp_path):
        shape = helper.make_tensor_value_info("shape", TensorProto.INT64, ["n"])
        model = segmenting(helper.make_node("Reshape", ["scores", "shape"], ["out"]), output="out")
        model.graph.input.append(shape)
        model.graph.output[0].type.tensor_type.ClearField("shape")
        assert "shape" in refusal(written(tmp_path, model))

    def test_only_files_of_that_name_match(self, tmp_path):
        file = written(tmp_path, segmenting())
        assert matches(file)
        assert not matches(tmp_path) and not matches(file.with_suffix(".tflite"))
        assert not matches(tmp_path / "missing.onnx")


class TestGives:
    def test_class_ids_and_their_number_come_from_an_argmax(self, tmp_path):
        model = segmenting(
            argmax(keepdims=0),
            helper.make_node("Cast", ["best"], ["small"], to=TensorProto.INT32),
            helper.make_node("Unsqueeze", ["small", "axes"], ["ids"]),
            output="ids",
            dtype=TensorProto.INT32,
            shape=("N", 1, "h", "w"),
            initializers=[numpy_helper.from_array(np.array([1]), "axes")],
        )
        source = read(written(tmp_path, model))
        assert source.outputs == (Port("ids", "int32", (None, 1, None, None)),)
        assert source.facts.gives.value is Gives.CLASS_IDS
        assert source.facts.outputs.value == 3
        assert source.facts.outputs.source == "the graph"

    @pytest.mark.parametrize(
        ("operation", "arguments", "gives"),
        [
            ("Softmax", {"axis": 1}, Gives.PROBABILITIES),
            ("Sigmoid", {}, Gives.PROBABILITIES),
            ("LogSoftmax", {"axis": 1}, Gives.LOGITS),
            ("Identity", {}, Gives.LOGITS),
            ("Exp", {}, None),
        ],
    )
    def test_scores_are_what_the_last_operation_makes_them(
        self, tmp_path, operation, arguments, gives
    ):
        made = helper.make_node(operation, ["scores"], ["made"], **arguments)
        turned = helper.make_node("Transpose", ["made"], ["out"], perm=[0, 2, 3, 1])
        model = segmenting(made, turned, output="out", shape=("N", "h", "w", 3))
        facts = read(written(tmp_path, model)).facts
        assert (facts.gives.value if facts.gives else None) is gives
        assert facts.outputs is None

    def test_outputs_that_differ_leave_it_open(self, tmp_path):
        model = segmenting(argmax())
        best = helper.make_tensor_value_info("best", TensorProto.INT64, ["N", 1, "h", "w"])
        model.graph.output.append(best)
        source = read(written(tmp_path, model))
        assert len(source.outputs) == 2 and source.facts.gives is None


class TestPrecision:
    def test_half_precision_is_that_of_the_weights(self, tmp_path):
        model = segmenting(weights=kernel().astype(np.float16), dtype=TensorProto.FLOAT16)
        source = read(written(tmp_path, model))
        assert source.precision == "f16" and source.inputs[0].dtype == "float16"

    def test_quantised_operations_are_integers(self, tmp_path):
        model = segmenting(
            helper.make_node("QuantizeLinear", ["scores", "scale", "zero"], ["out"]),
            output="out",
            dtype=TensorProto.UINT8,
            initializers=[
                numpy_helper.from_array(np.float32(0.1), "scale"),
                numpy_helper.from_array(np.uint8(3), "zero"),
            ],
        )
        source = read(written(tmp_path, model))
        assert source.precision == "int8" and source.facts.gives.value is Gives.LOGITS


class TestMetadata:
    def test_what_ultralytics_writes_is_understood(self, tmp_path):
        model = segmenting(
            names="{0: 'road', 1: 'sky', 2: \"bus stop's sign\"}",
            license="AGPL-3.0 License",
            imgsz="[512, 1024]",
            stride="32",
        )
        facts = read(written(tmp_path, model)).facts
        assert facts.class_names.value == ("road", "sky", "bus stop's sign")
        assert facts.licence.value == "AGPL-3.0 License"
        assert facts.input_size.value == (1024, 512)
        assert facts.licence.source == "the metadata of the ONNX file"
        assert facts.architecture.value == "exported by tests"

    def test_what_the_standard_names_is_understood(self, tmp_path):
        model = segmenting(
            model_license="MIT",
            **{"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "Normalized_1_1"},
        )
        facts = read(written(tmp_path, model)).facts
        assert facts.licence.value == "MIT"
        assert facts.channels.value is Channels.BGR
        assert facts.mean.value == facts.std.value == (0.5, 0.5, 0.5)

    @pytest.mark.parametrize(
        ("mean", "std", "expected"),
        [
            ("[0.5, 0.4, 0.3]", "[0.2, 0.2, 0.2]", ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))),
            ("127.5", "51", ((0.5,) * 3, (0.2,) * 3)),
            ("[0, 0, 0]", "[255, 255, 255]", ((0.0,) * 3, (1.0,) * 3)),
        ],
    )
    def test_mean_and_std_become_those_of_photos_in_0_to_1(self, tmp_path, mean, std, expected):
        facts = read(written(tmp_path, segmenting(mean=mean, std=std))).facts
        assert facts.mean.value == pytest.approx(expected[0])
        assert facts.std.value == pytest.approx(expected[1])

    @pytest.mark.parametrize(
        "names",
        ["{0: 'a', 2: 'b'}", "[1, 2]", "(" * 10_000, "__import__('os').abort()", "9" * (1 << 19)],
    )
    def test_what_is_no_list_of_names_is_left_out(self, tmp_path, names):
        assert read(written(tmp_path, segmenting(names=names))).facts.class_names is None

    def test_numbers_that_are_none_are_left_out(self, tmp_path):
        for mean, std in [("[1, 2]", "[1, 1, 1]"), ("[0, 0, 0]", "[0, 1, 1]"), ("NaN", "1")]:
            facts = read(written(tmp_path, segmenting(mean=mean, std=std))).facts
            assert facts.mean is facts.std is None


def with_external_data(folder: Path, location: str = "weights.bin") -> onnx.ModelProto:
    """A model whose weights are in a file beside it, in the middle of other bytes."""
    (folder / "weights.bin").write_bytes(b"\1" * 100 + kernel().tobytes() + b"\2" * 100)
    model = segmenting()
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    stated = {"location": location, "offset": "100", "length": str(kernel().nbytes)}
    for key, value in stated.items():
        weights.external_data.add(key=key, value=value)
    return model


class TestExternalData:
    def test_it_is_read_into_one_file(self, tmp_path):
        source = read(written(tmp_path, with_external_data(tmp_path)))
        assert list(source.files) == [FILE]
        merged = onnx.load_from_string(source.files[FILE])
        assert np.array_equal(numpy_helper.to_array(merged.graph.initializer[0]), kernel())
        assert merged.graph.initializer[0].data_location == TensorProto.DEFAULT

    def test_it_may_be_in_a_folder_below(self, tmp_path):
        model = with_external_data(tmp_path, "below/w.bin")
        (tmp_path / "below").mkdir()
        (tmp_path / "weights.bin").rename(tmp_path / "below" / "w.bin")
        assert read(written(tmp_path, model)).outputs

    @pytest.mark.parametrize(
        "location",
        [
            "../../../../../../etc/passwd",
            "/etc/passwd",
            "below/../../other",
            "C:\\secret",
            "..\\other",
            "",
            "a\0b",
            "*/_ORT_MEM_ADDR_/*",
        ],
    )
    def test_other_places_are_refused_by_name(self, tmp_path, location):
        said = refusal(written(tmp_path, with_external_data(tmp_path, location)))
        assert repr(location) in said and "'kernel'" in said

    def test_links_that_lead_out_are_refused(self, tmp_path):
        folder = tmp_path / "model"
        folder.mkdir()
        model = with_external_data(tmp_path, "below/weights.bin")
        (folder / "below").symlink_to(tmp_path)
        assert "leads out of the folder" in refusal(written(folder, model))
        (folder / "below").unlink()
        (folder / "below").mkdir()
        (folder / "below" / "weights.bin").symlink_to(tmp_path / "weights.bin")
        assert "leads out of the folder" in refusal(written(folder, model))

    def test_links_within_the_folder_are_followed(self, tmp_path):
        model = with_external_data(tmp_path, "link.bin")
        (tmp_path / "link.bin").symlink_to("weights.bin")
        assert read(written(tmp_path, model)).outputs

    def test_the_cache_of_a_hub_may_hold_links_only(self, tmp_path):
        """`huggingface_hub` keeps files under their checksums, and links to them by their names."""
        for folder in ("blobs", "snapshots/1"):
            (tmp_path / folder).mkdir(parents=True)
        written(tmp_path / "blobs", with_external_data(tmp_path / "blobs", "model.onnx_data"))
        for name, blob in [("model.onnx", "model.onnx"), ("model.onnx_data", "weights.bin")]:
            (tmp_path / "snapshots/1" / name).symlink_to(f"../../blobs/{blob}")
        assert read(tmp_path / "snapshots/1/model.onnx").outputs
        (tmp_path / "weights.bin").write_bytes((tmp_path / "blobs/weights.bin").read_bytes())
        (tmp_path / "snapshots/1/model.onnx_data").unlink()
        (tmp_path / "snapshots/1/model.onnx_data").symlink_to("../../weights.bin")
        assert "leads out of the folder" in refusal(tmp_path / "snapshots/1/model.onnx")

    def test_what_is_no_file_is_refused(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "folder").mkdir()
        for location in ("pipe", "folder", "missing"):
            model = with_external_data(tmp_path, location)
            assert "no such file" in refusal(written(tmp_path, model))

    @pytest.mark.parametrize(
        ("key", "value"),
        [("offset", "500"), ("offset", "-1"), ("length", "5"), ("offset", "x"), ("length", "-1")],
    )
    def test_bytes_that_are_not_there_are_refused(self, tmp_path, key, value):
        model = with_external_data(tmp_path)
        for entry in model.graph.initializer[0].external_data:
            if entry.key == key:
                entry.value = value
        assert "weights.bin" in refusal(written(tmp_path, model))

    def test_more_than_a_file_of_onnx_holds_is_refused_before_it_is_read(self, tmp_path):
        model = with_external_data(tmp_path)
        with (tmp_path / "weights.bin").open("r+b") as file:
            file.truncate(3 << 30)  # A sparse file, which takes no space.
        first = model.graph.initializer[0]
        first.dims[:] = [1 << 29, 1]
        first.external_data[2].value = str(2 << 30)
        assert "2147483647 at most" in refusal(written(tmp_path, model))


def in_a_branch(node: onnx.NodeProto) -> onnx.ModelProto:
    """A network with an operation within a subgraph of another one."""
    output = [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)]
    branch = helper.make_graph([node], "branch", [], output)
    value = numpy_helper.from_array(np.array(True))
    return segmenting(
        helper.make_node("Constant", [], ["yes"], value=value),
        helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch),
        output="out",
    )


class TestCustomOperations:
    def test_they_are_refused_by_domain(self, tmp_path):
        model = segmenting(
            helper.make_node("Run", ["scores"], ["out"], domain="evil"), output="out"
        )
        said = refusal(written(tmp_path, model))
        assert "'Run'" in said and "'evil'" in said

    def test_within_subgraphs_too(self, tmp_path):
        model = in_a_branch(helper.make_node("Run", ["scores"], ["result"], domain="evil"))
        assert "'evil'" in refusal(written(tmp_path, model))
        model = in_a_branch(helper.make_node("Identity", ["scores"], ["result"]))
        assert read(written(tmp_path, model)).outputs

    def test_and_functions(self, tmp_path):
        model = segmenting(helper.make_node("F", ["scores"], ["out"], domain="own"), output="out")
        body = [helper.make_node("Identity", ["a"], ["b"])]
        model.functions.append(helper.make_function("own", "F", ["a"], ["b"], body, OPSETS))
        assert "'F'" in refusal(written(tmp_path, model))

    def test_a_name_that_the_standard_does_not_have_is_refused(self, tmp_path):
        model = segmenting(helper.make_node("Run", ["scores"], ["out"]), output="out")
        assert "Run" in refusal(written(tmp_path, model))

    def test_those_of_onnx_runtimes_quantiser_are_read(self, tmp_path):
        def adding(operation: str) -> onnx.ModelProto:
            scale, zero = ["scale", "zero"], ["zero"]
            model = segmenting(
                helper.make_node("QuantizeLinear", ["scores", *scale], ["q"]),
                helper.make_node(
                    operation,
                    ["q", *scale, "q", *scale, *scale],
                    ["out"],
                    domain="com.microsoft",
                ),
                output="out",
                dtype=TensorProto.UINT8,
                initializers=[
                    numpy_helper.from_array(np.float32(0.1), "scale"),
                    numpy_helper.from_array(np.array(3, np.uint8), *zero),
                ],
            )
            model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
            return model

        assert read(written(tmp_path, adding("QLinearAdd"))).precision == "int8"
        assert "'Attention'" in refusal(written(tmp_path, adding("Attention")))


class TestClaims:
    """Files that state more than they hold."""

    @pytest.mark.parametrize("dims", [[1 << 29], [1 << 40, 1 << 40], [-1, -5], [3, 3, 4, 5], []])
    @pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.INT8, TensorProto.STRING])
    def test_weights_that_are_not_there(self, tmp_path, dims, kind):
        model = segmenting()
        model.graph.initializer[0].dims[:] = dims
        model.graph.initializer[0].data_type = kind
        assert "'kernel'" in refusal(written(tmp_path, model))
        model.graph.initializer[0].ClearField("raw_data")
        assert "'kernel'" in refusal(written(tmp_path, model))

    def test_constants_in_subgraphs_too(self, tmp_path):
        value = TensorProto(name="big", data_type=TensorProto.FLOAT, dims=[1 << 29])
        constant = helper.make_node("Constant", [], ["result"], value=value)
        assert "'big'" in refusal(written(tmp_path, in_a_branch(constant)))

    def test_sparse_ones_are_refused(self, tmp_path):
        model = segmenting()
        values = numpy_helper.from_array(np.ones(1, np.float32), "big")
        places = numpy_helper.from_array(np.zeros(1, np.int64), "places")
        sparse = helper.make_sparse_tensor(values, places, [1 << 40])
        model.graph.sparse_initializer.append(sparse)
        assert "sparse" in refusal(written(tmp_path, model))

    def test_tensors_that_would_be_made_of_nothing(self, tmp_path):
        model = segmenting(
            helper.make_node("ConstantOfShape", ["sizes"], ["big"]),
            initializers=[numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "sizes")],
        )
        assert "'big'" in refusal(written(tmp_path, model))

    @pytest.mark.parametrize("number", [1, 15])
    def test_more_parts_than_any_network_has(self, tmp_path, number):
        """Operations or value infos of two bytes each, which would become objects."""
        parts = bytes([number << 3 | 2, 0]) * (1 << 20)
        graph = segmenting().graph.SerializeToString() + parts
        content = b"\x3a" + varint(len(graph)) + graph
        assert "more than 524288 parts" in refusal(written(tmp_path, content))

    def test_numbers_may_be_kept_as_such(self, tmp_path):
        model = segmenting()
        values = kernel()
        whole = helper.make_tensor("kernel", TensorProto.FLOAT, values.shape, values.ravel())
        model.graph.initializer[0].CopyFrom(whole)
        assert read(written(tmp_path, model)).outputs
        del model.graph.initializer[0].float_data[0]
        assert "holds 143 numbers, expected 144" in refusal(written(tmp_path, model))

    def test_four_bits_are_packed(self, tmp_path):
        small = helper.make_tensor("small", TensorProto.UINT4, [3], [1, 2, 3])
        model = segmenting(initializers=[small])
        model.opset_import[0].version, model.ir_version = 21, 10
        assert read(written(tmp_path, model)).outputs
        model.graph.initializer[1].dims[:] = [5]
        assert "'small'" in refusal(written(tmp_path, model))


class TestDamage:
    @pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9, 0.99])
    def test_a_file_that_was_cut_short_is_refused(self, tmp_path, share):
        content = segmenting().SerializeToString()
        assert "cut short" in refusal(written(tmp_path, content[: int(len(content) * share)]))

    def test_other_files_are_refused(self, tmp_path):
        for content in (b"\x89PNG\r\n\x1a\n", np.random.default_rng(0).bytes(10_000), b"<net>"):
            assert "no ONNX file" in refusal(written(tmp_path, content))

    def test_one_larger_than_protobuf_allows_is_not_read(self, tmp_path):
        file = written(tmp_path, segmenting())
        with file.open("r+b") as stream:
            stream.truncate(2 << 30)  # A sparse file, which takes no space.
        assert "2147483647 at most" in refusal(file)

    def test_a_graph_that_breaks_the_standard_is_refused(self, tmp_path):
        model = segmenting()
        model.graph.node[0].input[0] = "nothing"
        assert "breaks the standard" in refusal(written(tmp_path, model))

    @settings(
        max_examples=300, deadline=None, suppress_health_check=[HealthCheck.differing_executors]
    )
    @given(st.data())
    def test_any_changed_bytes_are_read_or_refused(self, tmp_path_factory, data):
        content = bytearray(
            segmenting(argmax(), output="best", dtype=TensorProto.INT64, names="['a']")
            .SerializeToString()
        )  # fmt: skip
        places = st.integers(0, len(content) - 1)
        for place, byte in data.draw(
            st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=5)
        ):
            content[place] = byte
        file = written(tmp_path_factory.mktemp("changed"), bytes(content))
        try:
            assert isinstance(read(file), Source)
        except ModelImportError as error:
            assert "\n" not in str(error)
