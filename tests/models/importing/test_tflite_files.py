"""TFLite files: what they tell, and that hostile ones are refused without harm."""

from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.graphs import Channels, Format, Gives
from models.importing.sources import Fact, ModelImportError, Source
from models.importing.tflite_files import matches, read
from tests import tflite_models
from tests.peak_memory import peak_memory
from tests.tflite_models import CLASSES, OPEN, changed, converted, table, with_metadata

EDGETPU = "deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite"
PASCAL = "deeplabv3_mnv2_pascal_quant.tflite"


@pytest.fixture(scope="module")
def plain() -> bytes:
    return converted()


def half() -> bytes:
    """A network whose weights are in half precision."""
    return converted(
        optimizations=[tf.lite.Optimize.DEFAULT],
        target_spec=tf.lite.TargetSpec(supported_types=[tf.float16]),
    )


@pytest.fixture
def read_content(tmp_path):
    """A function that reads the content of a file, with bounded memory."""
    file = tmp_path / "network.tflite"

    def read_it(content: bytes) -> Source:
        file.write_bytes(content)
        with peak_memory() as grown:
            source = read(file)
        assert not grown or grown[0] < 64 << 20
        return source

    return read_it


def refusal(folder: Path, content: bytes) -> str:
    """The one line with which a file is refused, without taking memory for it."""
    file = folder / "network.tflite"
    file.write_bytes(content)
    with peak_memory() as grown, pytest.raises(ModelImportError) as caught:
        read(file)
    assert not grown or grown[0] < 64 << 20
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)
    return str(caught.value)


def test_files_are_known_by_their_suffix(tmp_path):
    for name in ("a.tflite", "B.TFLITE", "c.onnx"):
        (tmp_path / name).touch()
    assert [name for name in ("a.tflite", "B.TFLITE", "c.onnx", "d.tflite")
            if matches(tmp_path / name)] == ["a.tflite", "B.TFLITE"]  # fmt: skip


class TestPublishedNetworks:
    @pytest.mark.parametrize(("name", "classes"), [(EDGETPU, 19), (PASCAL, 21)])
    def test_quantised_networks_that_give_class_ids(self, shared_data, name, classes):
        source = read(shared_data / "models" / name)
        (taken,), (given), facts = source.inputs, source.outputs, source.facts
        assert (source.format, source.precision) == (Format.TFLITE, "int8")
        assert (taken.dtype, taken.shape) == ("uint8", (1, 513, 513, 3))
        assert (taken.scale, taken.zero_point) == (1 / 128, 128)
        assert [(port.name, port.dtype, port.shape, port.scale) for port in given] == [
            ("ArgMax", "int64", (1, 513, 513), None)
        ]
        assert facts.gives == Fact(Gives.CLASS_IDS, "its argmax")
        assert facts.outputs == Fact(classes, "its argmax")

    def test_a_quantised_input_gets_the_bytes_of_a_photo(self, shared_data):
        source = read(shared_data / "models" / EDGETPU)
        mean, std = source.facts.mean.value[0], source.facts.std.value[0]
        levels = (np.arange(256) / 255 - mean) / std
        taken = source.inputs[0]
        assert np.allclose(levels / taken.scale + taken.zero_point, np.arange(256))


class TestMadeNetworks:
    def test_logits(self, read_content, plain):
        source = read_content(plain)
        assert source.files == {"network.tflite": plain}
        assert [(port.dtype, port.shape) for port in (*source.inputs, *source.outputs)] == [
            ("float32", (1, 32, 48, 3)),
            ("float32", (1, 16, 24, CLASSES)),
        ]
        assert source.precision == "f32"
        assert source.facts.gives.value is Gives.LOGITS
        assert source.facts.mean is None

    def test_open_sizes(self, read_content):
        source = read_content(converted(shape=OPEN))
        assert source.inputs[0].shape == (None, None, None, 3)
        assert source.outputs[0].shape == (None, None, None, CLASSES)

    def test_probabilities_even_if_they_are_enlarged_afterwards(self, read_content):
        def enlarged(photos):
            return tf.image.resize(tf.nn.softmax(tflite_models.scores(photos)), (32, 48))

        assert read_content(converted(enlarged)).facts.gives.value is Gives.PROBABILITIES

    @pytest.mark.parametrize(
        "after",
        [
            lambda ids: ids,
            lambda ids: tf.cast(ids, tf.float32),
            lambda ids: tf.cast(ids[..., None], tf.uint8),
        ],
    )
    def test_class_ids_of_any_type(self, read_content, after):
        facts = read_content(converted(lambda photos: after(tflite_models.class_ids(photos)))).facts
        assert facts.gives.value is Gives.CLASS_IDS
        assert facts.outputs.value == CLASSES

    def test_class_ids_along_another_axis(self, read_content):
        def first_axis(photos):
            return tf.argmax(tf.transpose(tflite_models.scores(photos), (0, 3, 1, 2)), axis=1)

        facts = read_content(converted(first_axis)).facts
        assert facts.outputs.value == CLASSES

    @pytest.mark.parametrize("dtype", [tf.uint8, tf.int8])
    def test_quantised_with_quantised_scores(self, read_content, dtype):
        source = read_content(tflite_models.quantised(dtype=dtype))
        (taken,), (given,) = source.inputs, source.outputs
        assert source.precision == "int8"
        assert taken.dtype == given.dtype == dtype.name
        assert given.scale > 0
        # It was calibrated with photos in 0..1.
        assert source.facts.mean.value == pytest.approx((0, 0, 0), abs=0.01)
        assert source.facts.std.value == pytest.approx((1, 1, 1), rel=0.01)

    def test_weights_in_half_precision(self, read_content):
        assert read_content(half()).precision == "f16"

    def test_weights_in_integers_with_computed_scales(self, read_content):
        kernel = tf.constant(np.random.default_rng(1).normal(size=(3, 3, 3, 64)), tf.float32)
        dynamic = converted(
            lambda photos: tf.nn.conv2d(photos, kernel, 1, "SAME"),
            optimizations=[tf.lite.Optimize.DEFAULT],
        )
        assert read_content(dynamic).precision == "int8"

    def test_loops_have_graphs_of_their_own(self, read_content):
        def twice(photos):
            return tf.while_loop(
                lambda n, x: n < 2, lambda n, x: (n + 1, tf.nn.relu(x) + x), (0, photos)
            )[1]

        content = converted(twice)
        assert schema.Model.GetRootAs(content, 0).SubgraphsLength() == 3
        assert read_content(content).outputs[0].shape == (1, 32, 48, 3)


class TestMetadata:
    def test_normalisation_size_licence_and_a_packed_label_file(self, read_content, plain):
        content = with_metadata(plain, tflite_models.metadata(), labels__txt="road\nsky\ntree\n")
        facts = read_content(content).facts
        assert facts.name.value == "streets"
        assert facts.licence.value == "Apache License Version 2.0"
        assert facts.mean.value == facts.std.value == (0.5, 0.5, 0.5)
        assert facts.channels.value is Channels.RGB
        assert facts.input_size.value == (48, 32)
        assert facts.class_names == Fact(("road", "sky", "tree"), "TFLite metadata")

    def test_normalisation_per_channel(self, read_content, plain):
        content = with_metadata(
            plain, tflite_models.metadata([51, 102, 153], [25.5, 51, 255]), labels__txt="road"
        )
        facts = read_content(content).facts
        assert facts.mean.value == pytest.approx((0.2, 0.4, 0.6))
        assert facts.std.value == pytest.approx((0.1, 0.2, 1))

    def test_what_is_stated_is_preferred_to_what_the_quantisation_suggests(self, read_content):
        content = with_metadata(
            tflite_models.quantised(), tflite_models.metadata([102], [51]), labels__txt="road"
        )
        assert read_content(content).facts.mean == Fact(
            pytest.approx((0.4, 0.4, 0.4)), "TFLite metadata"
        )

    def test_a_missing_label_file_is_refused(self, tmp_path, plain):
        content = with_metadata(plain, tflite_models.metadata(), other__txt="road")
        assert "the label file 'labels.txt' in it cannot be read" in refusal(tmp_path, content)

    def test_a_label_file_that_unpacks_to_gigabytes_is_refused(self, tmp_path, plain):
        content = with_metadata(plain, tflite_models.metadata(), labels__txt="x" * (2 << 20))
        assert "2097152 bytes, at most 1048576 are read" in refusal(tmp_path, content)

    def test_damaged_metadata_is_refused(self, tmp_path, plain):
        content = with_metadata(plain, tflite_models.metadata()[:100], labels__txt="road")
        assert "it refers to byte" in refusal(tmp_path, content)


class TestHostileFiles:
    def test_another_format_is_refused(self, tmp_path):
        assert "no TFLite file" in refusal(tmp_path, b"GIF89a" * 10)
        assert "no TFLite file" in refusal(tmp_path, b"")

    def test_a_file_that_is_not_there_is_told(self, tmp_path):
        with pytest.raises(ModelImportError, match="cannot be read: No such file"):
            read(tmp_path / "network.tflite")

    @pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9, 0.99])
    def test_a_file_that_was_cut_short_is_refused(self, shared_data, tmp_path, share):
        content = (shared_data / "models" / PASCAL).read_bytes()
        refusal(tmp_path, content[: int(len(content) * share)])

    def test_operations_of_tensorflow_are_refused_by_name(self, tmp_path):
        ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        content = converted(
            lambda photos: tf.bitwise.invert(tf.cast(photos, tf.int32)),
            target_spec=tf.lite.TargetSpec(supported_ops=ops),
        )
        reason = refusal(tmp_path, content)
        assert "the custom operation 'FlexInvert'" in reason
        assert "without SELECT_TF_OPS" in reason

    def test_operations_of_others_are_refused_by_name(self, tmp_path):
        content = converted(lambda photos: tf.math.digamma(photos), allow_custom_ops=True)
        assert "the custom operation 'Digamma'" in refusal(tmp_path, content)

    def test_weights_in_other_files_are_refused(self, tmp_path, plain):
        def change(model):
            group = schema.ExternalBufferGroupT()
            group.name = "../../etc/passwd"
            model.externalBufferGroups = [group]

        assert "weights in other files" in refusal(tmp_path, changed(plain, change))

    def test_weights_that_are_fewer_than_their_shape_are_refused(self, tmp_path, plain):
        def change(model):
            (weights,) = (t for t in model.subgraphs[0].tensors if list(t.shape) == [8, 3, 3, 3])
            weights.shape = [1000, 3, 3, 3]

        reason = refusal(tmp_path, changed(plain, change))
        assert "its buffer holds" in reason and "of the shape [1000, " in reason

    @pytest.mark.parametrize("shape", [[1 << 30, 1 << 30], [1 << 20] * 8])
    def test_tensors_that_claim_all_memory_are_refused(self, tmp_path, plain, shape):
        def change(model):
            model.subgraphs[0].tensors[0].shape = shape

        assert f"at most {4 << 30} are read" in refusal(tmp_path, changed(plain, change))

    @pytest.mark.parametrize("shape", [[-1, 4], [1] * 9])
    def test_impossible_shapes_are_refused(self, tmp_path, plain, shape):
        def change(model):
            model.subgraphs[0].tensors[0].shape = shape
            model.subgraphs[0].tensors[0].shapeSignature = None

        refusal(tmp_path, changed(plain, change))

    @pytest.mark.parametrize(
        ("scale", "zero_point"),
        [
            ([-1], [0]), ([float("nan")], [0]), ([0], [0]), ([1], [256]), ([1], []),
            ([1, 1], [0, 0]),
        ],
    )  # fmt: skip
    def test_impossible_quantisation_is_refused(self, tmp_path, scale, zero_point):
        """Some of it crashes the library that would run it."""

        def change(model):
            quantisation = model.subgraphs[0].tensors[0].quantization
            quantisation.scale, quantisation.zeroPoint = scale, zero_point

        reason = refusal(tmp_path, changed(tflite_models.quantised(), change))
        assert f"has {len(scale)} scales like" in reason

    @pytest.mark.parametrize("which", ["last", "first", "all"])
    def test_what_is_never_computed_is_refused(self, tmp_path, plain, which):
        def change(model):
            graph = model.subgraphs[0]
            kept = {"last": graph.operators[:-1], "first": graph.operators[1:], "all": []}
            graph.operators = kept[which]

        assert "is used before it is computed" in refusal(tmp_path, changed(plain, change))

    def test_weights_that_grow_when_they_are_dequantised_are_refused(self, tmp_path):
        def change(model):
            first = model.subgraphs[0].operators[0]
            model.subgraphs[0].tensors[first.outputs[0]].shape = [5, 1, 1 << 20, 8]

        reason = refusal(tmp_path, changed(half(), change))
        assert (
            "has the shape [5, 1, 1048576, 8], and what it is computed from [5, 1, 1, 8]" in reason
        )

    @pytest.mark.parametrize("kind", ["STRING", "RESOURCE"])
    def test_what_is_no_number_is_refused(self, tmp_path, plain, kind):
        def change(model):
            model.subgraphs[0].tensors[0].type = getattr(schema.TensorType, kind)

        assert "which is none of numbers" in refusal(tmp_path, changed(plain, change))

    def test_a_buffer_behind_the_end_is_refused(self, tmp_path, plain):
        def change(model):
            model.buffers[1].offset, model.buffers[1].size = 1 << 40, 8

        assert "begins at byte 1099511627776" in refusal(tmp_path, changed(plain, change))

    @pytest.mark.parametrize("part", ["tensor", "buffer", "operation"])
    def test_references_to_what_is_not_there_are_refused(self, tmp_path, plain, part):
        def change(model):
            graph = model.subgraphs[0]
            if part == "tensor":
                graph.operators[0].inputs = [12345]
            elif part == "buffer":
                graph.tensors[0].buffer = 12345
            else:
                graph.operators[0].opcodeIndex = 12345

        assert f"it refers to {part} 12345" in refusal(tmp_path, changed(plain, change))

    def test_entries_that_are_all_the_same_large_one_take_no_memory(self, tmp_path):
        builder = flatbuffers.Builder()
        tensor = table(builder, _3=("text", "x" * 4000))
        graph = table(builder, _0=("tables", [tensor] * 30_000))
        buffer = table(builder)
        model = table(builder, _2=("tables", [graph] * 30_000), _4=("tables", [buffer]))
        builder.Finish(model, b"TFL3")
        assert "more than 65536 tensors" in refusal(tmp_path, bytes(builder.Output()))

    def test_more_parts_than_any_network_has_are_refused(self, tmp_path):
        builder = flatbuffers.Builder()
        graph = table(builder, _0=("tables", [table(builder)] * 40_000))
        builder.Finish(table(builder, _2=("tables", [graph])), b"TFL3")
        assert "40000 entries, at most 32768" in refusal(tmp_path, bytes(builder.Output()))

    def test_names_longer_than_any_are_refused(self, tmp_path, plain):
        def change(model):
            model.subgraphs[0].tensors[0].name = "x" * 5000

        assert "5000 bytes, at most 4096 are read" in refusal(tmp_path, changed(plain, change))

    @settings(
        max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_a_damaged_file_is_read_or_refused(self, tmp_path, plain, data):
        """Nothing else happens, whatever bytes are changed."""
        content = bytearray(
            with_metadata(plain, tflite_models.metadata(), labels__txt="road\nsky\n")
        )
        for _ in range(data.draw(st.integers(1, 4))):
            position = data.draw(st.integers(0, len(content) - 1))
            content[position] = data.draw(st.integers(0, 255))
        file = tmp_path / "network.tflite"
        file.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
        try:
            assert isinstance(read(file), Source)
        except ModelImportError as error:
            assert "\n" not in str(error)
