import hashlib
import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

from models.networks import (
    ARCHITECTURES,
    FIRST_CHANNELS,
    build_network,
    scale_channels,
)
from models.packages import (
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    PackageError,
    load_package,
    shipped_names,
    write_package,
)
from tests.made_models import TINY


@pytest.fixture
def package(tiny_model, tmp_path):
    """A copy of the tiny model that a test may spoil."""
    return shutil.copytree(tiny_model, tmp_path / "copy")


def describe(package, **changes) -> None:
    """Change values of the description; None takes a key away."""
    file = package / DESCRIPTION_FILE
    description = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in description.items() if v is not None}))


def refused(package, message: str) -> None:
    with pytest.raises(PackageError, match=message) as caught:
        load_package(package)
    assert "\n" not in str(caught.value) and str(package) in str(caught.value)


def test_a_package_is_read_as_it_was_written(tiny_model):
    package = load_package(tiny_model)
    assert (package.name, package.architecture, package.width) == ("tiny", "efficientnet_fpn", 0.1)
    assert (package.input_height, package.input_width) == (64, 96)
    assert (package.mean, package.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert package.classes.keys == ("sky", "tree_top", "road")
    assert package.classes.palette()[:9] == bytes([0, 0, 255, 0, 128, 0, 9, 9, 9])
    assert (package.training, package.metrics) == ({"data": "none"}, {})
    assert package.path == tiny_model
    assert package.model_id == f"tiny@{package.fingerprint[:12]}"


def test_the_network_comes_back_with_the_weights_it_was_written_with(tmp_path, tiny_model):
    template = load_package(tiny_model)
    network = template.build_network()
    random = np.random.default_rng(0)
    network.set_weights([random.uniform(0.1, 1, w.shape) for w in network.get_weights()])
    described = replace(template, name="again", metrics={"miou": 0.5})
    again = write_package(tmp_path / "again", network, described)
    assert again.metrics == {"miou": 0.5}
    read = again.build_network()
    assert read.dtype == "float32"
    for before, after in zip(network.get_weights(), read.get_weights(), strict=True):
        assert after.dtype == np.float32
        np.testing.assert_allclose(after, before, rtol=1e-3)
    logits = read(np.zeros((1, 64, 96, 3), np.float32), training=False)
    assert logits.shape[0] == 1 and logits.shape[-1] == 3


def test_the_fingerprint_is_that_of_the_content(package, tiny_model):
    fingerprint = load_package(tiny_model).fingerprint
    assert load_package(package).fingerprint == fingerprint
    (package / "README.md").write_text("what people read is no part of the model")
    assert load_package(package).fingerprint == fingerprint
    describe(package, mean=[0.5, 0.5, 0.5])
    changed = load_package(package).fingerprint
    content = bytearray((package / WEIGHTS_FILE).read_bytes()) + b"\0"
    (package / WEIGHTS_FILE).write_bytes(content)
    describe(package, weights_sha256=hashlib.sha256(content).hexdigest())
    assert len({fingerprint, changed, load_package(package).fingerprint}) == 3


@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_weights_that_were_cut_short_are_refused(package, share):
    content = (package / WEIGHTS_FILE).read_bytes()
    cut = content[: int(len(content) * share)]
    (package / WEIGHTS_FILE).write_bytes(cut)
    refused(package, f"{WEIGHTS_FILE}: {len(cut)} bytes with another SHA-256 .* copy the package")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("content", [b"", b"no weights", None])
def test_weights_that_are_none_are_refused_before_work(package, content):
    if content is None:
        content = (package / WEIGHTS_FILE).read_bytes()[:5000]
    (package / WEIGHTS_FILE).write_bytes(content)
    describe(package, weights_sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(PackageError, match="the weights do not fit efficientnet_fpn"):
        load_package(package).build_network()


@pytest.mark.parametrize(
    "name", ["model.pkl", "model.keras", "model.h5", "layers.py", "saved_model.pb", "m.onnx", "x"]
)
def test_files_that_may_carry_code_are_refused(package, name):
    (package / name).write_bytes(b"anything")
    refused(package, f"found {name}; .* may contain code are refused")


def test_a_saved_model_beside_the_weights_is_refused(package):
    (package / "variables").mkdir()
    (package / "saved_model.pb").write_bytes(b"")
    (package / "fingerprint.pb").write_bytes(b"")
    refused(package, "found fingerprint.pb, saved_model.pb;")


@pytest.mark.parametrize("name", [DESCRIPTION_FILE, WEIGHTS_FILE])
@pytest.mark.parametrize("folder", [False, True])
def test_a_package_without_one_of_its_files_is_refused(package, name, folder):
    (package / name).unlink()
    if folder:
        (package / name).mkdir()
    refused(package, f"no {name}")


@pytest.mark.parametrize("name", ["no-such-model", "../nowhere", ""])
def test_an_unknown_name_lists_the_models_that_are_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PackageError) as caught:
        load_package(name or tmp_path)
    if name:
        assert f"unknown model '{name}'" in str(caught.value)
        assert all(shipped in str(caught.value) for shipped in shipped_names())


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, '{"name": "tiny"', "\xff\xfe"])
def test_a_description_that_is_no_json_is_refused(package, content):
    (package / DESCRIPTION_FILE).write_text(content, encoding="latin-1")
    refused(package, f"{DESCRIPTION_FILE}: not valid JSON")


@pytest.mark.parametrize("content", ["[]", "1", '"tiny"', "null"])
def test_a_description_that_is_no_object_is_refused(package, content):
    (package / DESCRIPTION_FILE).write_text(content)
    refused(package, f"{DESCRIPTION_FILE}: found a .*, expected an object")


def test_a_description_without_its_keys_names_them(package):
    describe(package, mean=None, classes=None)
    refused(package, "missing classes, mean")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 3}, "format version 3, this program reads versions 1 to 2"),
        ({"architecture": "pspnet"}, "unknown architecture 'pspnet'; .*efficientnet_fpn"),
        ({"architecture": ["efficientnet_fpn"]}, "architecture .*, expected a text"),
        ({"outputs": 4}, "3 classes for a network with 4 outputs"),
        ({"classes": []}, r"classes \[\], expected a list of 1 to 255 classes"),
        ({"classes": 3}, "classes 3, expected a list of 1 to 255 classes"),
        ({"classes": "sky"}, "classes 'sky', expected a list of 1 to 255 classes"),
        ({"classes": [{"name": "Sky"}] * 3}, "color"),
        ({"classes": [{"name": n, "color": [0, 0, 256]} for n in "abc"]}, "."),
        ({"classes": [{"name": n, "color": [1, 2, i + 0.5]} for i, n in enumerate("abc")]}, "."),
        ({"classes": [{"name": n, "color": "red"} for n in "abc"]}, "."),
        ({"classes": [{"name": "A", "color": [0, 0, i]} for i in range(3)]}, "given twice: a"),
        ({"classes": [1, 2, 3]}, "."),
        ({"mean": [0.5, 0.5]}, "."),
        ({"mean": 0.5}, "."),
        ({"mean": [0.5, 0.5, float("nan")]}, "mean 'NaN', expected a number"),
        ({"std": [0.5, 0.5, 0]}, "std 0"),
        ({"width": 0}, "width 0"),
        ({"width": float("inf")}, "width 'Infinity', expected a number"),
        ({"width": "wide"}, "wide"),
        ({"input_height": 0}, "input_height 0"),
        ({"input_width": 10**9}, "input_width 1000000000"),
        ({"input_width": 96.5}, "."),
        ({"training": 5}, "the training 5, expected an object"),
        ({"width": -1}, "width -1, expected a number from 0.001 to 8"),
        ({"width": 40}, "width 40, expected a number from 0.001 to 8"),
        ({"width": 10**400}, "width 10.*0, expected a number from 0.001 to 8"),
        ({"width": True}, "width True, expected a number"),
        ({"std": [0.2, 0.2, 1e-300]}, "std 1e-300, expected a number from 0.001 to 1000"),
        ({"mean": [0.2, 0.2, 1e300]}, r"mean 1e\+300, expected a number from -1000 to 1000"),
        ({"input_height": -64}, "input_height -64, expected 1 to 16384 pixels"),
        ({"input_height": 16384, "input_width": 16384}, "16384x16384, .* at most 8388608"),
        ({"name": ""}, "name '', expected a text of 1 to 200 bytes"),
        ({"name": "x" * 201}, "name 'xx.*[.]{3}.*xx', expected a text of 1 to 200 bytes"),
        ({"name": {"a": 1}}, "name {'a': 1}, expected a text"),
        (
            {"outputs": 10**6, "classes": [{"name": "a", "color": [0, 0, 0]}] * 10**6},
            "classes .*, expected a list of 1 to 255 classes",
        ),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(package, changes, message):
    describe(package, **changes)
    refused(package, f"{DESCRIPTION_FILE}.*{message}")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_of_another_width_do_not_fit(package):
    describe(package, width=0.5)
    with pytest.raises(PackageError, match=r"do not fit efficientnet_fpn \(width 0.5\)") as caught:
        load_package(package).build_network()
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_of_another_number_of_classes_do_not_fit(package):
    four = [{"name": n, "color": [0, 0, i]} for i, n in enumerate("abcd")]
    describe(package, classes=four, outputs=4)
    with pytest.raises(PackageError, match="with 4 classes"):
        load_package(package).build_network()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_of_another_architecture_do_not_fit(package):
    import keras

    other = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(3, 1)])
    other.save_weights(package / WEIGHTS_FILE)
    content = (package / WEIGHTS_FILE).read_bytes()
    describe(package, weights_sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(PackageError, match="do not fit efficientnet_fpn"):
        load_package(package).build_network()


def with_weights(package, change) -> None:
    """Change the weight file of a package, and its hash in the description."""
    with h5py.File(package / WEIGHTS_FILE, "a") as file:
        change(file, file["layers/conv2d/vars"])
    content = (package / WEIGHTS_FILE).read_bytes()
    describe(package, weights_sha256=hashlib.sha256(content).hexdigest())


def never_written(file, layer):
    del layer["0"]
    layer.create_dataset("0", (100_000, 100_000, 100), "f4")


def packed(file, layer):
    del layer["0"]
    layer.create_dataset("0", data=np.zeros((2000, 2000), "f2"), compression="gzip")


def elsewhere(file, layer):
    del layer["0"]
    layer["0"] = h5py.ExternalLink("other.h5", "/weights")


def by_another_name(file, layer):
    del layer["0"]
    layer["0"] = h5py.SoftLink("/layers/conv2d_1/vars/0")


def in_raw_files(file, layer):
    del layer["0"]
    layer.create_dataset("0", (8, 8), "f4", external=[("/etc/hostname", 0, 256)])


def pieced_together(file, layer):
    del layer["0"]
    layout = h5py.VirtualLayout((4, 100), "f4")
    layout[0] = h5py.VirtualSource("other.h5", "weights", (100,))
    layer.create_virtual_dataset("0", layout)


def words(file, layer):
    layer["more"] = ["not", "numbers"]


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (never_written, "states 4000000000000 bytes and holds 0"),
        (packed, "states 8000000 bytes and holds "),
        (elsewhere, "is a link to something else"),
        (by_another_name, "is a link to something else"),
        (in_raw_files, "is kept in another file"),
        (pieced_together, "is kept in another file"),
        (words, "is no array of numbers"),
    ],
)
def test_weights_that_are_not_what_they_state_are_refused(package, lie, reason):
    with_weights(package, lie)
    with pytest.raises(PackageError, match=f"do not fit .*: layers/conv2d/vars/.* {reason}"):
        load_package(package)


def test_a_width_is_compared_with_the_weights_before_a_network_is_built(package):
    describe(package, width=8)
    with pytest.raises(PackageError, match="first layer: 8 found, 256 expected of that width"):
        load_package(package)


def test_the_weights_are_compared_with_the_network(package):
    """Of nearly the same width the first layer has the same channels."""
    describe(package, width=0.3)
    found = load_package(package)
    with pytest.raises(PackageError, match="they are those of another network"):
        found.build_network()


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_the_channels_of_the_first_layer_are_known_beforehand(architecture):
    network = build_network(architecture, 3, 0.2)
    (first,) = [tuple(w.shape) for w in network.weights if tuple(w.shape)[:3] == (3, 3, 3)]
    assert first[3] == scale_channels(FIRST_CHANNELS[architecture], 0.2)


def test_a_weight_file_that_is_too_large_is_not_read(package):
    with open(package / WEIGHTS_FILE, "ab") as file:
        file.truncate(1 << 40)
    refused(package, f"{WEIGHTS_FILE}: found {1 << 40} bytes, expected at most {4 << 30}")


def test_a_class_table_that_does_not_fit_the_network_is_not_written(tmp_path):
    with pytest.raises(ValueError):
        write_package(tmp_path / "new", build_network(TINY.architecture, 2, TINY.width), TINY)
    assert not (tmp_path / "new" / DESCRIPTION_FILE).exists()


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_model_is_whole_and_says_what_it_is(name):
    package = load_package(name)
    assert package.training and package.metrics
    assert sum(file.stat().st_size for file in package.path.iterdir()) < 15 << 20
