"""KerasHub presets: networks made here with random weights, from folders and from hubs."""

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.engines import devices
from models.graphs import Gives, Resize
from models.importing import handles, keras_files, keras_hub_presets
from models.importing.sources import ModelImportError, Source
from tests.hub_server import NOWHERE, HubServer, KaggleServer
from tests.imported_networks import outputs, refusal

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 64

refused = partial(refusal, keras_hub_presets.read)


@pytest.fixture(scope="module")
def keras_hub():
    devices.import_tensorflow()
    import keras_hub

    return keras_hub


@pytest.fixture(scope="module")
def segformer(keras_hub):
    """A SegFormer of five classes with photos of a fixed size."""
    encoder = keras_hub.models.MiTBackbone(
        image_shape=(SIDE, SIDE, 3),
        num_layers=4,
        hidden_dims=[8, 12, 16, 24],
        layerwise_depths=[1, 1, 1, 1],
        layerwise_num_heads=[1, 1, 2, 2],
        layerwise_sr_ratios=[8, 4, 2, 1],
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
        max_drop_path_rate=0.1,
    )
    converter = keras_hub.layers.SegFormerImageConverter(
        image_size=(SIDE, SIDE),
        scale=[1 / (255 * value) for value in STD],
        offset=[-mean / std for mean, std in zip(MEAN, STD, strict=True)],
        crop_to_aspect_ratio=False,
    )
    return keras_hub.models.SegFormerImageSegmenter(
        backbone=keras_hub.models.SegFormerBackbone(encoder, projection_filters=16),
        num_classes=5,
        preprocessor=keras_hub.models.SegFormerImageSegmenterPreprocessor(converter),
    )


@pytest.fixture(scope="module")
def deeplab(keras_hub):
    """A DeepLabV3+ of four classes that takes photos of any size."""
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64, 64],
        stackwise_num_blocks=[2, 2, 2],
        stackwise_num_strides=[1, 2, 2],
        block_type="basic_block",
    )
    backbone = keras_hub.models.DeepLabV3Backbone(
        image_encoder=encoder,
        spatial_pyramid_pooling_key="P4",
        upsampling_size=4,
        dilation_rates=[2, 4],
        low_level_feature_key="P2",
        projection_filters=8,
    )
    converter = keras_hub.layers.DeepLabV3ImageConverter(image_size=(SIDE, 96), scale=1 / 255)
    return keras_hub.models.DeepLabV3ImageSegmenter(
        backbone=backbone,
        num_classes=4,
        preprocessor=keras_hub.models.DeepLabV3ImageSegmenterPreprocessor(converter),
    )


@pytest.fixture(scope="module")
def segformer_preset(segformer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("presets") / "segformer_streets"
    segformer.save_to_preset(folder)
    return folder


@pytest.fixture(scope="module")
def deeplab_preset(deeplab, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("presets") / "deeplab_streets"
    deeplab.save_to_preset(folder)
    return folder


@pytest.fixture(scope="module")
def segformer_source(segformer_preset) -> Source:
    return keras_hub_presets.read(segformer_preset)


@pytest.fixture(scope="module")
def deeplab_source(deeplab_preset) -> Source:
    return keras_hub_presets.read(deeplab_preset)


@pytest.fixture
def copy(segformer_preset, tmp_path) -> Path:
    return shutil.copytree(segformer_preset, tmp_path / "preset")


@pytest.fixture
def photo(make_photo, tmp_path):
    """A function that makes a normalised photo."""

    def make(width: int, mean, std) -> np.ndarray:
        image = Image.open(make_photo(tmp_path / "a.png", width, SIDE))
        return ((np.asarray(image)[None] / 255 - mean) / std).astype(np.float32)

    return make


def enlarged(scores: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    import keras

    return np.asarray(keras.ops.image.resize(scores, shape))


class TestSegformer:
    def test_scores_before_they_are_enlarged_are_those_of_the_network(
        self, segformer, segformer_source, photo
    ):
        source = segformer_source
        assert source.inputs[0].shape == (None, SIDE, SIDE, 3)
        assert source.outputs[0].shape == (None, SIDE // 4, SIDE // 4, 5)
        taken = photo(SIDE, MEAN, STD)
        scores = enlarged(outputs(source, taken)[0], (SIDE, SIDE))
        np.testing.assert_allclose(scores, segformer(taken, training=False), atol=1e-4)

    def test_its_image_converter_tells_how_photos_are_prepared(self, segformer_source):
        facts = segformer_source.facts
        np.testing.assert_allclose(facts.mean.value, MEAN)
        np.testing.assert_allclose(facts.std.value, STD)
        assert facts.input_size.value == (SIDE, SIDE) and facts.resize.value is Resize.STRETCH
        assert facts.gives.value is Gives.LOGITS and facts.architecture.value == "SegFormer"
        assert facts.name.value == "segformer_streets"

    def test_an_archive_of_it_is_read_alike(self, segformer, tmp_path):
        segformer.save(tmp_path / "a.keras")
        source = keras_files.read(tmp_path / "a.keras")
        assert source.outputs[0].shape == (None, SIDE // 4, SIDE // 4, 5)
        np.testing.assert_allclose(source.facts.std.value, STD)


class TestDeeplab:
    def test_scores_before_they_are_enlarged_are_those_of_the_network(
        self, deeplab, deeplab_source, photo
    ):
        source = deeplab_source
        assert source.outputs[0].shape[-1] == 4
        taken = photo(96, 0, 1)
        scores = enlarged(outputs(source, taken)[0], (SIDE, 96))
        np.testing.assert_allclose(scores, deeplab(taken, training=False), atol=1e-4)

    def test_it_is_converted_for_the_size_of_its_image_converter_or_another(
        self, deeplab_source, deeplab_preset
    ):
        source = deeplab_source
        assert source.facts.input_size.value == (96, SIDE)
        assert source.facts.resize is None  # It crops, which loses pixels.
        if source.warnings:  # Keras 3.15 cannot trace it for open sizes.
            assert "can only be converted for one: 96x64" in source.warnings[0]
            assert source.inputs[0].shape == (None, SIDE, 96, 3)
            source = keras_hub_presets.read(deeplab_preset, input_size=(128, 96))
            assert source.inputs[0].shape == (None, 96, 128, 3)

    def test_its_image_converter_tells_how_photos_are_prepared(self, deeplab_source):
        facts = deeplab_source.facts
        np.testing.assert_allclose(facts.mean.value, [0, 0, 0])
        np.testing.assert_allclose(facts.std.value, [1, 1, 1])
        assert facts.architecture.value == "DeepLabV3+"


def test_only_presets_match(segformer_preset, tmp_path):
    assert keras_hub_presets.matches(segformer_preset)
    (tmp_path / "config.json").write_text('{"model_type": "segformer"}')
    assert not keras_hub_presets.matches(tmp_path)


class TestRefused:
    @pytest.mark.parametrize("name", ["task.json", "model.weights.h5"])
    def test_a_backbone_alone(self, copy, name):
        (copy / name).unlink()
        assert f"a preset without {name}" in refused(copy)

    def test_another_task(self, copy):
        shutil.copy(copy / "config.json", copy / "task.json")
        assert "a SegFormerBackbone, expected an ImageSegmenter" in refused(copy)

    def test_weights_of_another_network(self, copy, deeplab_preset):
        shutil.copy(deeplab_preset / "task.weights.h5", copy)
        assert "the weights lack" in refused(copy)

    def test_weights_that_are_cut_short(self, copy):
        os.truncate(copy / "model.weights.h5", 50_000)
        assert "damaged" in refused(copy)

    @pytest.mark.parametrize(
        ("name", "evil"),
        [
            ("MiTBackbone", {"module": "keras.layers", "class_name": "Lambda"}),
            ("MiTBackbone", {"registered_name": "city>Backbone"}),
            ("SegFormerImageConverter", {"module": "keras_hub.src.tokenizers.byte_tokenizer"}),
            ("SegFormerImageConverter", {"module": "city", "class_name": "ImageConverter"}),
        ],
        ids=["Lambda", "registered", "tokenizer", "module"],
    )
    def test_code(self, copy, name, evil):
        def change(stated: dict) -> dict:
            return stated | evil if stated.get("class_name") == name else stated

        task = json.loads((copy / "task.json").read_text(), object_hook=change)
        (copy / "task.json").write_text(json.dumps(task))
        assert "refused" in refused(copy)

    def test_more_memory_than_there_are_weights(self, copy):
        task = json.loads((copy / "task.json").read_text())
        task["config"]["backbone"]["config"]["projection_filters"] = 1 << 28
        (copy / "task.json").write_text(json.dumps(task))
        assert "the weights lack" in refused(copy)


def test_what_is_missing_is_named(copy, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    assert "pip install 'citymask[hub]'" in refused(copy)
    for handle, library in (("hf://a/b", "huggingface_hub"), ("kaggle://a/b/c/d", "kagglehub")):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(ModelImportError, match=r"pip install 'citymask\[hub\]'"):
            handles.fetch(handle)


class TestHandles:
    def test_a_preset_is_fetched_from_hugging_face(self, segformer_preset, tmp_path):
        with HubServer("city/streets", segformer_preset) as hub:
            done = hub.import_from("hf://city/streets", tmp_path)
        assert done.stdout == "streets openvino (None, 16, 16, 5)\n", done.stderr
        assert all("/city/streets/" in target for target in hub.asked)

    def test_a_preset_is_fetched_from_kaggle(self, segformer_preset, monkeypatch, tmp_path):
        from kagglesdk import kaggle_env

        monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
        monkeypatch.setenv("HTTPS_PROXY", NOWHERE)
        with KaggleServer(segformer_preset) as hub:
            production = kaggle_env.KaggleEnv.PROD
            monkeypatch.setitem(kaggle_env._env_to_endpoint, production, hub.url)
            handle = "kaggle://city/segformer/keras/streets/3"
            assert keras_hub_presets.matches(handles.fetch(handle))
        assert handles.name(handle) == "streets"
        assert hub.asked[0]["ownerSlug"] == "city" and hub.asked[0]["versionNumber"] == 3

    def test_what_a_hub_does_not_have_is_told_in_a_line(self, tmp_path):
        with HubServer("city/streets", tmp_path) as hub:
            done = hub.import_from("hf://city/roads", tmp_path)
        last = done.stderr.splitlines()[-1]
        assert "ModelImportError: hf://city/roads: cannot be fetched" in last
        assert "Repository Not Found" in last
