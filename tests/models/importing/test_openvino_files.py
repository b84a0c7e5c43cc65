"""OpenVINO IRs: what they tell, and that damaged and hostile ones are refused without harm."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from models.graphs import Channels, Format, Gives, Resize
from models.importing.openvino_files import FILES, matches, read
from models.importing.sources import ModelImportError, Port, Source
from tests.onnx_models import kernel, segmenting
from tests.peak_memory import peak_memory


def written(folder: Path, model=None, half: bool = False, **stated: str) -> Path:
    """An IR of an ONNX network, with entries of `model_info`."""
    made = openvino.Core().read_model((model or segmenting()).SerializeToString())
    for key, value in stated.items():
        made.set_rt_info(value, ["model_info", key])
    file = folder / "road.xml"
    openvino.save_model(made, file, compress_to_fp16=half)
    return file


def refusal(file: Path) -> str:
    """The one line with which an IR is refused, without taking memory for it."""
    with peak_memory() as grown, pytest.raises(ModelImportError) as caught:
        read(file)
    assert not grown or grown[0] < 64 << 20
    assert str(caught.value).startswith(str(file.parent)) and "\n" not in str(caught.value)
    return str(caught.value)


class TestPorts:
    def test_names_types_and_sizes_are_those_of_the_file(self, tmp_path):
        file = written(tmp_path, segmenting(photo=(1, 3, 64, "W")))
        source = read(file)
        assert source.format is Format.OPENVINO and source.precision == "f32"
        contents = file.read_bytes(), file.with_suffix(".bin").read_bytes()
        assert source.files == dict(zip(FILES, contents, strict=True))
        assert source.inputs == (Port("photo", "float32", (1, 3, 64, None)),)
        assert source.outputs == (Port("scores", "float32", (1, 3, 16, None)),)
        assert source.facts.gives.value is Gives.LOGITS

    def test_only_irs_match(self, tmp_path):
        file = written(tmp_path)
        assert matches(file)
        (tmp_path / "page.xml").write_text("<html/>")
        for name in ("page.xml", "road.bin", "missing.xml", "."):
            assert not matches(tmp_path / name)

    def test_half_precision_is_that_of_the_weights(self, tmp_path):
        assert read(written(tmp_path, half=True)).precision == "f16"


@pytest.mark.parametrize("axis", [1, -3])
def test_class_ids_and_their_number_come_from_an_argmax(tmp_path, axis):
    best = helper.make_node("ArgMax", ["scores"], ["best"], axis=axis, keepdims=0)
    model = segmenting(best, output="best", dtype=TensorProto.INT64, shape=("N", "h", "w"))
    source = read(written(tmp_path, model))
    assert source.outputs == (Port("best", "int64", (None, None, None)),)
    assert source.facts.gives.value is Gives.CLASS_IDS
    assert source.facts.outputs.value == 3


class TestModelInfo:
    def test_what_the_model_api_needs_is_understood(self, tmp_path):
        file = written(
            tmp_path,
            labels="road sky bus_stop",
            mean_values="127.5 102 51",
            scale_values="51",
            reverse_input_channels="YES",
            resize_type="fit_to_window",
            model_type="Segmentation",
        )
        facts = read(file).facts
        assert facts.class_names.value == ("road", "sky", "bus_stop")
        assert facts.class_names.source == "model_info"
        assert facts.mean.value == pytest.approx((0.5, 0.4, 0.2))
        assert facts.std.value == pytest.approx((0.2, 0.2, 0.2))
        assert facts.channels.value is Channels.RGB
        assert facts.resize.value is Resize.PAD

    def test_a_network_that_prepares_photos_itself_gets_them_as_they_are(self, tmp_path):
        file = written(tmp_path, mean_values="1 2 3", embedded_processing="True")
        assert read(file).facts.mean is None

    @pytest.mark.parametrize("values", ["a b c", "1 2", "nan 1 1", "0 1 1", "1e9 1 1"])
    def test_numbers_that_make_no_sense_are_left_out(self, tmp_path, values):
        facts = read(written(tmp_path, scale_values=values)).facts
        assert facts.mean is facts.std is None


class TestDamage:
    def test_weights_that_are_missing(self, tmp_path):
        file = written(tmp_path)
        file.with_suffix(".bin").unlink()
        assert "no road.bin" in refusal(file)

    @pytest.mark.parametrize("change", [lambda b: b[:-4], lambda b: b + b"0", lambda b: b""])
    def test_weights_of_another_size(self, tmp_path, change: Callable[[bytes], bytes]):
        file = written(tmp_path)
        weights = file.with_suffix(".bin")
        weights.write_bytes(change(weights.read_bytes()))
        assert f"expected {kernel().nbytes}" in refusal(file)

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
    def test_a_description_that_was_cut_short(self, tmp_path, share):
        file = written(tmp_path)
        text = file.read_bytes()
        file.write_bytes(text[: int(len(text) * share)])
        assert "cut short" in refusal(file)

    def test_other_files(self, tmp_path):
        file = written(tmp_path)
        for content in (np.random.default_rng(0).bytes(1000), segmenting().SerializeToString()):
            file.write_bytes(content)
            assert "no IR" in refusal(file)

    def test_more_than_any_network_has(self, tmp_path):
        file = written(tmp_path)
        with file.open("ab") as stream:
            stream.write(b" " * (16 << 20))
        assert "expected 16777216 at most" in refusal(file)

    def test_custom_operations(self, tmp_path):
        file = written(tmp_path)
        text = file.read_text()
        for old, new in [('version="opset1"', 'version="extension"'), ("Convolution", "Evil")]:
            file.write_text(text.replace(old, new))
            assert "OpenVINO cannot read it" in refusal(file)

    def test_weights_that_are_not_there(self, tmp_path):
        file = written(tmp_path)
        text = file.read_text()
        file.write_text(text.replace('shape="3, 3, 4, 4"', 'shape="300000000, 3, 4, 4"'))
        assert "OpenVINO cannot read it" in refusal(file)
        file.write_text(re.sub('size="576"', 'size="99999999999"', text))
        assert "expected 99999999999" in refusal(file)

    def test_tensors_larger_than_any_photo(self, tmp_path):
        model = segmenting(photo=(1, 3, 1 << 16, 1 << 16))
        assert "elements at most" in refusal(written(tmp_path, model))

    @pytest.mark.parametrize(
        "definition",
        [
            '<!DOCTYPE net [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
            '<!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
            '<!DOCTYPE net SYSTEM "http://127.0.0.1/x.dtd">',
        ],
    )
    def test_entities_are_refused(self, tmp_path, definition):
        file = written(tmp_path)
        start, end, rest = file.read_text().partition("?>")
        file.write_text(start + end + definition + rest)
        assert "entities" in refusal(file)

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_any_changed_bytes_are_read_or_refused(self, tmp_path_factory, data):
        file = written(tmp_path_factory.mktemp("changed"), labels="a b c")
        text = bytearray(file.read_bytes())
        places = st.integers(0, len(text) - 1)
        for place, byte in data.draw(
            st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=5)
        ):
            text[place] = byte
        file.write_bytes(text)
        try:
            assert isinstance(read(file), Source)
        except ModelImportError as error:
            assert "\n" not in str(error)
