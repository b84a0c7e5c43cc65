"""The reader of a source is found by what the source is, and facts beside it are added."""

import shutil

import pytest

from models.graphs import Format
from models.importing import reading
from models.importing.sources import ModelImportError
from tests.onnx_models import segmenting


@pytest.fixture
def onnx_file(tmp_path):
    (tmp_path / "road.onnx").write_bytes(segmenting().SerializeToString())
    return tmp_path / "road.onnx"


def test_labels_beside_a_network_are_taken(onnx_file):
    (onnx_file.parent / "labels.txt").write_text("road\nsky\ntree\n")
    source = reading.read(str(onnx_file))
    assert source.format is Format.ONNX
    assert source.facts.class_names.value == ("road", "sky", "tree")
    assert source.facts.class_names.source == "labels.txt"


def test_what_a_network_states_itself_comes_first(tmp_path):
    model = segmenting(classes="['road', 'sky', 'tree']")
    (tmp_path / "road.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    names = reading.read(str(tmp_path / "road.onnx")).facts.class_names
    assert names.value == ("road", "sky", "tree") and "metadata" in names.source


@pytest.mark.parametrize("name", ["missing.onnx", "notes.md", "."])
def test_what_can_be_imported_is_listed(tmp_path, name):
    (tmp_path / "notes.md").write_text("notes")
    with pytest.raises(ModelImportError, match=r"expected an ONNX file.*KerasHub.*hf://") as caught:
        reading.read(str(tmp_path / name))
    assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.ckpt", "pytorch_model.bin", "a.safetensors"])
def test_pytorch_users_see_how_to_export_onnx(onnx_file, tmp_path, name):
    shutil.copy(onnx_file, tmp_path / name)
    with pytest.raises(ModelImportError) as caught:
        reading.read(str(tmp_path / name))
    refused, *export = str(caught.value).splitlines()
    assert "refused" in refused and [line.strip() for line in export] == [
        "import torch",
        "model.eval()",
        'torch.onnx.export(model, torch.zeros(1, 3, 512, 1024), "network.onnx")',
    ]
