"""Keras archives: the networks in them are those of Keras, and nothing in them is executed."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from models.engines import devices
from models.graphs import Format, Gives
from models.importing import keras_files
from models.importing.sources import ModelImportError, Port
from tests.imported_networks import outputs, refusal

CONFIG, WEIGHTS = keras_files.CONFIG, keras_files.WEIGHTS

refused = partial(refusal, keras_files.read)


@pytest.fixture(scope="module")
def keras():
    devices.import_tensorflow()
    import keras

    return keras


@pytest.fixture(scope="module")
def network(keras):
    """A network that takes photos in 0..255 of any size; trained, so that it has an optimiser."""
    layers = keras.layers
    photo = keras.Input((None, None, 3), name="photo")
    features = layers.Rescaling(1 / 127.5, -1)(photo)
    features = layers.Conv2D(8, 3, 2, "same", activation="relu")(features)
    features = layers.Dropout(0.5)(layers.BatchNormalization()(features))
    scores = layers.Conv2DTranspose(4, 2, 2, activation="softmax", name="classes")(features)
    network = keras.Model(photo, scores, name="streets")
    network.compile("adam", "mse")
    network.fit(np.ones((1, 8, 8, 3)), np.ones((1, 8, 8, 4)), verbose=0)
    return network


@pytest.fixture(scope="module")
def saved(network, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("keras") / "streets.keras"
    network.save(file)
    return file


@pytest.fixture
def changed(saved, tmp_path) -> Callable[[Callable[[Path], Any]], Path]:
    """A function that packs the members of an archive again after a change."""

    def change(change: Callable[[Path], Any]) -> Path:
        folder, file = tmp_path / "members", tmp_path / "a.keras"
        shutil.unpack_archive(saved, folder, "zip")
        change(folder)
        with zipfile.ZipFile(file, "w") as archive:
            for member in folder.iterdir():
                archive.write(member, member.name)
        return file

    return change


def in_config(change: Callable[[dict[str, Any]], Any], place: int = 2) -> Callable[[Path], Any]:
    """Changes a layer in the configuration, by default the convolution, see `changed`."""

    def write(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        change(config["config"]["layers"][place])
        (folder / CONFIG).write_text(json.dumps(config))

    return write


def test_a_network_of_open_size_stays_open(saved, network, make_photo, tmp_path):
    source = keras_files.read(saved)
    assert source.format is Format.OPENVINO and source.precision == "f32"
    assert source.inputs == (Port("photo", "float32", (None, None, None, 3)),)
    [port] = source.outputs
    assert port.shape == (None, None, None, 4) and source.facts.name.value == "streets"
    photo = np.asarray(Image.open(make_photo(tmp_path / "a.png")), np.float32)[None]
    expected = network.predict(photo, verbose=0)
    np.testing.assert_allclose(outputs(source, photo)[0], expected, atol=1e-5)


def test_probabilities_are_told_from_logits(saved):
    assert keras_files.read(saved).facts.gives.value is Gives.PROBABILITIES


def test_a_rescaling_layer_tells_that_photos_are_taken_as_they_are(saved):
    facts = keras_files.read(saved).facts
    assert facts.mean.value == (0, 0, 0) and facts.mean.source == "Rescaling layer"
    np.testing.assert_allclose(facts.std.value, [1 / 255] * 3)


def test_another_first_layer_tells_nothing(keras, tmp_path):
    layers = [keras.Input((16, 16, 3)), keras.layers.Rescaling(2, -1), keras.layers.Conv2D(2, 1)]
    keras.Sequential(layers).save(tmp_path / "a.keras")
    source = keras_files.read(tmp_path / "a.keras")
    assert source.facts.mean is source.facts.std is None
    assert source.inputs[0].shape == (None, 16, 16, 3)


def test_sizes_that_keras_cannot_leave_open_are_asked_for(keras, tmp_path):
    file = tmp_path / "a.keras"
    photo = keras.Input((None, None, 3))
    features = keras.layers.Conv2D(2, 3, 2, "same")(photo)
    enlarged = keras.layers.UpSampling2D(2, interpolation="bilinear")(features)
    keras.Model(photo, enlarged).save(file)
    try:
        keras_files.read(file)
    except ModelImportError as error:  # Keras 3.15 compares sizes that are not known.
        assert "--input-size" in str(error) and "\n" not in str(error)
        source = keras_files.read(file, input_size=(48, 32))
        assert source.inputs[0].shape == (None, 32, 48, 3)
        assert source.outputs[0].shape == (None, 32, 48, 2)
        assert "can only be converted for one: 48x32" in source.warnings[0]


def test_a_size_that_is_given_leaves_others_open(saved):
    assert keras_files.read(saved, (48, 32)).inputs[0].shape == (None, None, None, 3)


def test_a_file_of_keras_2_is_refused(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"\x89HDF")
    assert keras_files.matches(tmp_path / "a.h5")
    assert "save it by model.save('a.keras')" in refused(tmp_path / "a.h5")


class TestCode:
    def test_of_a_lambda(self, keras, tmp_path):
        marker, file = tmp_path / "marker", tmp_path / "a.keras"
        path = str(marker)
        layer = keras.layers.Lambda(lambda photo: (os.open(path, os.O_CREAT), photo)[1])
        keras.Sequential([keras.Input((8, 8, 3)), layer]).save(file)
        marker.unlink()
        assert "has a Lambda, which may hold code: refused" in refused(file)
        assert not marker.exists()

    def test_of_a_class_that_this_process_has_registered(self, keras, tmp_path):
        marker, file = tmp_path / "marker", tmp_path / "a.keras"

        @keras.saving.register_keras_serializable("city")
        class Marking(keras.layers.Layer):
            def __init__(self, **config):
                super().__init__(**config)
                marker.touch()

        keras.Sequential([keras.Input((8, 8, 3)), Marking()]).save(file)
        marker.unlink()
        assert "city>Marking" in refused(file)
        assert not marker.exists()

    @pytest.mark.parametrize(
        "stated",
        [
            {"module": "keras.layers", "class_name": "TFSMLayer"},
            {"module": "keras.layers", "class_name": "JaxLayer"},
            {"module": "keras.layers", "class_name": "TorchModuleWrapper"},
            {"module": "keras.layers", "class_name": "StringLookup"},
            {"module": "keras.src.layers.preprocessing.index_lookup", "class_name": "IndexLookup"},
            {"module": None, "class_name": "Lambda"},
            {"module": "os", "class_name": "system"},
            {"module": "keras_evil.layers", "class_name": "Conv2D"},
            {"module": "keras.src.utils.file_utils", "class_name": "Conv2D"},
            {"module": "keras.utils", "class_name": "function", "config": "get_file"},
            {"module": "builtins", "class_name": "eval", "config": "1"},
            {"class_name": "Conv2D", "registered_name": "city>Conv2D"},
            {"module": "keras_hub.tokenizers", "class_name": "BytePairTokenizer"},
        ],
        ids=lambda stated: f"{stated.get('module')}.{stated['class_name']}",
    )
    def test_of_what_the_configuration_names(self, changed, stated):
        assert "refused" in refused(changed(in_config(lambda layer: layer.update(stated))))

    def test_within_another_part(self, changed):
        inner = {"class_name": "__lambda__", "config": {"value": ["code", None, None]}}
        change = in_config(lambda layer: layer["config"].update(activation=inner))
        assert "has a __lambda__" in refused(changed(change))


class TestDamage:
    @pytest.mark.parametrize("share", [0, 0.5, 0.99])
    def test_what_is_cut_short(self, saved, tmp_path, share):
        content = saved.read_bytes()
        (tmp_path / "a.keras").write_bytes(content[: int(len(content) * share)])
        assert "no Keras archive, or damaged" in refused(tmp_path / "a.keras")

    def test_a_changed_byte_of_the_weights(self, saved, tmp_path):
        content = bytearray(saved.read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / "a.keras").write_bytes(content)
        assert "damaged" in refused(tmp_path / "a.keras")

    def test_a_configuration_that_is_no_json(self, changed):
        for content in (b"{", b"[]", b"\xff", b"[" * 100_000, b'{"class_name": "Model"}'):
            file = changed(lambda folder, content=content: (folder / CONFIG).write_bytes(content))
            refused(file)

    def test_a_configuration_that_is_large(self, changed):
        file = changed(lambda folder: (folder / CONFIG).write_bytes(b" " * (9 << 20)))
        assert "expected 8388608 at most" in refused(file)

    def test_a_layer_that_states_nonsense(self, changed):
        change = in_config(lambda layer: layer["config"].update(filters="many"))
        assert "cannot build the network" in refused(changed(change))

    def test_layers_that_ask_for_more_memory_than_there_are_weights(self, changed):
        change = in_config(lambda layer: layer["config"].update(filters=1 << 26), place=-1)
        assert "the weights lack" in refused(changed(change))

    def test_layers_that_make_far_more_of_a_photo(self, keras, tmp_path):
        photo = keras.Input((64, 64, 3))
        enlarged = keras.layers.UpSampling2D(10_000)(photo)
        keras.Model(photo, keras.layers.Conv2D(2, 1)(enlarged)).save(tmp_path / "a.keras")
        assert "of the shape ?x640000x640000x" in refused(tmp_path / "a.keras")

    def test_weights_of_another_network(self, changed):
        def write(folder: Path) -> None:
            with h5py.File(folder / WEIGHTS, "w") as weights:
                weights["layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 8), np.float32)

        assert "the weights lack" in refused(changed(write))

    def test_weights_that_are_kept_in_another_file(self, changed):
        def write(folder: Path) -> None:
            with h5py.File(folder / WEIGHTS, "a") as weights:
                weights["layers/conv2d/vars/9"] = h5py.ExternalLink("/etc/hostname", "a")

        assert "is a link to something else" in refused(changed(write))

    def test_weights_that_state_more_than_they_hold(self, changed):
        def write(folder: Path) -> None:
            with h5py.File(folder / WEIGHTS, "a") as weights:
                weights.create_dataset("a", (1 << 15, 1 << 15), np.float32, chunks=(1, 1 << 15))

        assert "states 4294967296 bytes and holds 0" in refused(changed(write))

    @pytest.mark.parametrize("name", ["../../marker", "/marker", "assets/words.txt", "a.npz"])
    def test_members_that_keras_networks_do_without(self, saved, tmp_path, name):
        file = shutil.copy(saved, tmp_path / "a.keras")
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(name, "a")
        assert repr(name) in refused(Path(file))

    def test_members_that_are_compressed(self, changed, tmp_path):
        file = tmp_path / "b.keras"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in keras_files.MEMBERS:
                archive.writestr(name, bytes(1 << 26))
        assert "is compressed" in refused(file)


def test_a_resizing_layer_leaves_the_batch_normalisation_after_it_as_in_predict(keras, tmp_path):
    layers = keras.layers
    photo = keras.Input((16, 16, 3))
    resized = layers.Resizing(16, 16)(layers.Conv2D(4, 3)(photo))
    network = keras.Model(photo, layers.BatchNormalization()(resized))
    network.save(tmp_path / "a.keras")
    values = np.random.default_rng(1).random((1, 16, 16, 3), np.float32)
    [found] = outputs(keras_files.read(tmp_path / "a.keras"), values)
    np.testing.assert_allclose(found, network.predict(values, verbose=0), atol=1e-5)
