"""Folders of Hugging Face: the ONNX file in them is read, weights alone are refused with advice."""

import json
from pathlib import Path

import pytest

from models.graphs import Format
from models.importing import hugging_face, reading
from models.importing.sources import ModelImportError
from tests.hub_server import HubServer
from tests.onnx_models import segmenting

CONFIG = {
    "architectures": ["SegformerForSemanticSegmentation"],
    "model_type": "segformer",
    "id2label": {"0": "road", "1": "sky", "2": "tree"},
}
PREPARED = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "do_rescale": True}


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "segformer-streets"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPARED))
    return folder


@pytest.mark.parametrize("name", ["model.onnx", "onnx/model.onnx"])
def test_the_onnx_file_is_read_with_what_the_folder_states(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(segmenting().SerializeToString())
    source = reading.read(str(folder))
    assert source.format is Format.ONNX
    assert source.facts.class_names.value == ("road", "sky", "tree")
    assert source.facts.mean.value == (0.4, 0.5, 0.6)
    assert source.facts.architecture.value == "SegformerForSemanticSegmentation"


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "tf_model.h5"])
def test_weights_alone_are_refused_with_the_lines_that_export_onnx(folder, name):
    (folder / name).write_bytes(b"weights")
    with pytest.raises(ModelImportError) as caught:
        reading.read(str(folder))
    refused, *export = str(caught.value).splitlines()
    assert "a segformer of transformers without model.onnx" in refused
    assert "no network for segmentation" in refused
    assert len(export) == 3 and f'"{folder}/model.onnx"' in export[-1]


def test_other_folders_do_not_match(tmp_path):
    for content in ("{}", "[]", "{", '{"class_name": "Functional"}', "[" * 100_000):
        (tmp_path / "config.json").write_text(content)
        assert not hugging_face.matches(tmp_path)


def test_a_repository_with_onnx_is_fetched_by_its_handle(folder, tmp_path):
    (folder / "model.onnx").write_bytes(segmenting().SerializeToString())
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with HubServer("city/streets", folder) as hub:
        done = hub.import_from("hf://city/streets", tmp_path / "cache")
    assert done.stdout == "streets onnx (None, 3, None, None)\n", done.stderr
    assert not any("pytorch_model.bin" in target for target in hub.asked)
