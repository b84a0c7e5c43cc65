"""int8 networks: how they are made, what their packages hold, and what is refused."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.engines import EngineError, EngineName, EngineOptions, Precision, load_engine
from models.engines.conversion import import_openvino
from models.packages import DESCRIPTION_FILE, PackageError, load_package
from models.quantisation import QuantisationError, calibration_photos, quantise
from models.segmenter import Segmenter
from tests.conftest import ROOT
from tests.made_models import make_model

INT8, F32 = (EngineOptions(precision=one) for one in (Precision.INT8, Precision.F32))


@pytest.fixture
def package(int8_model, tmp_path) -> Path:
    """A copy of the package with an int8 network that a test may spoil."""
    return shutil.copytree(int8_model, tmp_path / "copy")


def describe(package: Path, change) -> None:
    """Change the description by a function of it."""
    file = package / DESCRIPTION_FILE
    description = json.loads(file.read_text())
    change(description)
    file.write_text(json.dumps(description))


def put_network(package: Path, text: bytes, weights: bytes) -> None:
    """Put another IR into a package, with the right checksums."""
    for name, content in (("int8.xml", text), ("int8.bin", weights)):
        (package / name).write_bytes(content)
    stated = {
        name: hashlib.sha256((package / name).read_bytes()).hexdigest()
        for name in ("int8.xml", "int8.bin")
    }
    describe(package, lambda d: d["networks"][0].update(files=stated))


class TestPackage:
    def test_it_is_the_model_that_it_was_made_of(self, int8_model, tiny_model):
        made, source = load_package(int8_model), load_package(tiny_model)
        assert (made.model_id, made.fingerprint) == (source.model_id, source.fingerprint)
        assert made.files == ("model.weights.h5", "int8.xml", "int8.bin", "model.json")

    def test_the_description_says_how_it_was_made_and_what_it_loses(self, int8_model):
        described = json.loads((int8_model / DESCRIPTION_FILE).read_text())
        assert described["format_version"] == 2
        (network,) = described["networks"]
        assert (network["format"], network["precision"]) == ("openvino", "int8")
        assert network["made"]["tool"].startswith("NNCF 3.")
        assert network["made"]["calibration"].startswith("20 photos of labelled")
        assert network["made"]["calibration"].endswith("/train")
        measured = described["precisions"]["int8"]
        assert (measured["split"], measured["images"]) == ("val", 4)
        assert load_package(int8_model).loss("int8") == measured["loss"]
        assert load_package(int8_model).loss("f16") is None

    def test_a_package_of_format_1_is_read_and_stays_itself_in_format_2(
        self, tiny_model, labelled_photos, tmp_path
    ):
        old = shutil.copytree(tiny_model, tmp_path / "old")
        described = json.loads((old / DESCRIPTION_FILE).read_text()) | {"format_version": 1}
        for key in ("networks", "precisions"):
            del described[key]
        text = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
        (old / DESCRIPTION_FILE).write_text(text)
        first = load_package(old)
        photos = labelled_photos / "train"
        new = quantise(first, photos, tmp_path / "new").package
        assert new.fingerprint == first.fingerprint == load_package(tiny_model).fingerprint
        assert new.network_in("int8") and not first.network_in("int8")

    def test_the_class_table_is_still_part_of_the_identity(self, package):
        before = load_package(package).fingerprint
        describe(package, lambda d: d["classes"][0].update(color=[1, 2, 3]))
        assert load_package(package).fingerprint != before


class TestMasks:
    def test_they_are_nearly_those_of_single_precision(self, make_photo, int8_model, tmp_path):
        from PIL import Image

        photo = Image.open(make_photo(tmp_path / "photo.png", 192, 128))
        single = EngineOptions(EngineName.OPENVINO, Precision.F32)
        masks = [
            Segmenter.load(int8_model, options).segment(photo).mask for options in (INT8, single)
        ]
        assert 0 < np.mean(masks[0] != masks[1]) < 0.25  # Of random weights.

    def test_the_engine_says_so(self, int8_model):
        assert load_engine(load_package(int8_model), INT8).precision is Precision.INT8


SHA = "0" * 64


class TestRefusals:
    def test_too_few_photos(self, tiny_model, make_photo, tmp_path):
        for seed in range(15):
            make_photo(tmp_path / "few" / f"{seed}.jpg", seed=seed)
        with pytest.raises(QuantisationError, match="few: found 15 photos .* at least 16"):
            quantise(load_package(tiny_model), tmp_path / "few", tmp_path / "new")
        assert not (tmp_path / "new").exists()

    def test_a_photo_that_cannot_be_read(self, tiny_model, labelled_photos, tmp_path):
        data = shutil.copytree(labelled_photos, tmp_path / "data")
        (data / "train" / "5.png").write_bytes(b"not a photo")
        with pytest.raises(ValueError, match="5.png: cannot be read as an image"):
            quantise(load_package(tiny_model), data, tmp_path / "new")

    def test_a_loss_that_is_too_large(self, tiny_model, labelled_photos, tmp_path):
        with pytest.raises(QuantisationError, match="int8 loses .* nothing was written") as caught:
            quantise(load_package(tiny_model), labelled_photos, tmp_path / "new", max_loss=-1)
        assert "at most -100 are allowed" in str(caught.value)
        assert not (tmp_path / "new").exists()

    def test_nncf_is_missing(self, tiny_model, labelled_photos, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "nncf", None)
        with pytest.raises(QuantisationError, match=r"pip install 'citymask\[quantise\]'"):
            quantise(load_package(tiny_model), labelled_photos, tmp_path / "new")

    def test_nothing_is_told_to_others(self, tiny_model, tmp_path):
        """NNCF and OpenVINO tell their makers what is used, unless the telemetry is missing."""
        program = (
            "import sys; from models import packages, quantisation\n"
            "try: quantisation.quantise(packages.load_package(sys.argv[1]), *2 * sys.argv[2:])\n"
            "except quantisation.QuantisationError: pass\n"
            "print('nncf' in sys.modules, sys.modules['openvino_telemetry'])"
        )
        command = [sys.executable, "-c", program, str(tiny_model), str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.stdout.splitlines()[-1] == "True None", done.stderr

    def test_int8_of_a_model_without(self, tiny_model):
        with pytest.raises(EngineError, match="tiny has no int8 network: .*citymask quantise"):
            load_engine(load_package(tiny_model), INT8)

    def test_int8_by_another_engine(self, int8_model):
        options = EngineOptions(EngineName.TENSORFLOW, Precision.INT8)
        with pytest.raises(EngineError, match="does not compute in int8: choose the engine open"):
            load_engine(load_package(int8_model), options)

    @pytest.mark.parametrize("name", ["int8.xml", "int8.bin"])
    def test_a_file_that_was_changed(self, package, name):
        content = bytearray((package / name).read_bytes())
        content[len(content) // 2] ^= 1
        (package / name).write_bytes(content)
        with pytest.raises(PackageError, match=f"{name}: .* another SHA-256 than model.json"):
            load_package(package)

    def test_a_file_that_is_missing(self, package):
        (package / "int8.bin").unlink()
        with pytest.raises(PackageError, match="int8.bin: cannot be read: No such file"):
            load_package(package)

    def test_a_file_that_nobody_names(self, tiny_model, tmp_path):
        package = shutil.copytree(tiny_model, tmp_path / "copy")
        (package / "int8.xml").write_text("<net/>")
        with pytest.raises(PackageError, match="found int8.xml; a model package holds"):
            load_package(package)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"files": {"../int8.xml": SHA, "int8.bin": SHA}}, "int8.xml', expected a file name"),
            ({"files": {"int8.bin": SHA, "int8.xml": SHA}}, "expected one .xml and one .bin file"),
            ({"files": {"int8.xml": "0", "int8.bin": SHA}}, "files.int8.xml '0', .* a SHA-256"),
            ({"files": {}}, "networks.files {}, expected an object of SHA-256"),
            ({"format": "onnx"}, "networks.format 'onnx', expected 'openvino'"),
            ({"precision": "int4"}, "networks.precision 'int4', expected 'int8'"),
            ({"made": 3}, "networks.made 3, expected an object"),
        ],
    )
    def test_a_description_that_makes_no_sense(self, package, change, message):
        describe(package, lambda d: d["networks"][0].update(change))
        with pytest.raises(PackageError, match=f"model.json: .*{message}") as caught:
            load_package(package)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("loss", [None, "0.1", True, 2])
    def test_a_loss_that_is_none(self, package, loss):
        describe(package, lambda d: d["precisions"]["int8"].update(loss=loss))
        with pytest.raises(PackageError, match="int8.loss .*, expected a number from -1 to 1"):
            load_package(package)

    def test_no_ir_at_all(self, package):
        put_network(package, b"<nothing/>", b"")
        with pytest.raises(PackageError, match="int8.xml: not the int8 network .*cannot read it"):
            load_engine(load_package(package), INT8)

    def test_an_ir_of_other_classes(self, package, labelled_photos, tmp_path):
        from models.classes import ClassTable

        two = ClassTable.of([("Sky", (0, 0, 255)), ("Road", (9, 9, 9))])
        other = make_model(tmp_path / "two", classes=two)
        made = quantise(other, labelled_photos / "train", tmp_path / "other").package
        put_network(package, *made.read_files(made.networks[0]))
        with pytest.raises(
            PackageError, match=r"found u8 \[..,\?,\?,3\] -> f32 \[..,2\], expected .* f32 \[..,3\]"
        ) as caught:
            load_engine(load_package(package), INT8)
        assert "citymask quantise" in str(caught.value) and "\n" not in str(caught.value)

    def test_an_ir_whose_weights_are_cut(self, package):
        import_openvino()
        text, weights = ((package / name).read_bytes() for name in ("int8.xml", "int8.bin"))
        put_network(package, text, weights[:100])
        with pytest.raises(PackageError, match="int8.xml: not the int8 network"):
            load_engine(load_package(package), INT8)


def test_photos_for_calibration_are_spread_over_the_folder(labelled_photos):
    chosen = calibration_photos(labelled_photos, 3)
    assert [path.parent.name for path in chosen] == ["train"] * 3
    assert len(calibration_photos(labelled_photos, 180)) == 20
    assert len(calibration_photos(labelled_photos / "train", 180)) == 20


def test_without_labels_the_loss_is_unknown_and_auto_leaves_int8_alone(
    tiny_model, labelled_photos, tmp_path
):
    made = quantise(load_package(tiny_model), labelled_photos / "train", tmp_path / "new")
    assert made.single is made.int8 is made.package.loss("int8") is None
    options = EngineOptions(EngineName.OPENVINO)
    assert load_engine(made.package, options).precision is Precision.F32
    assert load_engine(made.package, INT8).precision is Precision.INT8


def test_a_package_is_quantised_again_in_its_own_folder(package, labelled_photos):
    before = load_package(package)
    again = quantise(before, labelled_photos / "train", package).package
    assert again.files == before.files and again.fingerprint == before.fingerprint


class TestImported:
    def test_an_int8_network_stands_beside_its_graph(
        self, imported_model, labelled_photos, tmp_path
    ):
        before = load_package(imported_model)
        made = quantise(before, labelled_photos / "train", tmp_path / "new").package
        assert (made.fingerprint, made.graph) == (before.fingerprint, before.graph)
        assert made.files == ("network.onnx", "int8.xml", "int8.bin", "model.json")
        photo = Image.open(labelled_photos / "val" / "0.png")
        masks = [Segmenter.load(made, options).segment(photo).mask for options in (INT8, F32)]
        assert 0.9 < np.mean(np.equal(*masks)) < 1

    def test_class_ids_are_refused(self, class_ids_model, labelled_photos, tmp_path):
        with pytest.raises(QuantisationError, match="ids gives class ids, .*without its last step"):
            quantise(load_package(class_ids_model), labelled_photos, tmp_path / "new")
        assert not (tmp_path / "new").exists()

    def test_what_is_in_8_bits_is_refused(self, imported_model, labelled_photos, tmp_path):
        package = load_package(imported_model)
        whole = replace(package, graph=replace(package.graph, precision="int8"))
        with pytest.raises(QuantisationError, match="streets computes in int8 already"):
            quantise(whole, labelled_photos, tmp_path / "new")
