"""Calibration: the temperature that was in the labels is found, and what is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from models.calibration import (
    CalibrationError,
    Pixels,
    calibrate,
    expected_calibration_error,
    fit_temperature,
)
from models.classes import IGNORE
from models.label_mappings import LabelMapping
from models.labelled_photos import LabelledPhotos, list_split
from models.packages import (
    DESCRIPTION_FILE,
    ModelPackage,
    PackageError,
    add_calibration,
    add_network,
    load_package,
)
from models.segmenter import Segmenter
from tests.drawn_labels import F32, TEMPERATURE, draw_labels, logits_of, sure_model
from tests.made_graphs import CITYSCAPES, giving_probabilities, giving_scores

CLASSES = len(CITYSCAPES)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> ModelPackage:
    return sure_model(tmp_path_factory.mktemp("models") / "sure")


@pytest.fixture(scope="module")
def data(model, make_photo, tmp_path_factory):
    """Photos with labels drawn by that network."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_labels(folder, model, make_photo)
    return folder


@pytest.fixture
def photos(data) -> LabelledPhotos:
    return list_split(data, "val", CLASSES)


@pytest.fixture(scope="module")
def calibrated(model, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "calibrated"
    return calibrate(model, [list_split(data, "val", CLASSES)], folder, F32)


class TestCalibrated:
    def test_the_temperature_is_found_and_confidences_are_right_with_it(self, calibrated):
        found = calibrated.calibration
        assert found.temperature == pytest.approx(TEMPERATURE, rel=0.05)
        assert found.ece_after < 0.01 < 0.05 < found.ece_before

    def test_the_model_is_the_same_and_so_are_its_masks(self, calibrated, model, data):
        assert (calibrated.fingerprint, calibrated.files) == (model.fingerprint, model.files)
        photo = Image.open(data / "val" / "3.png")
        old, new = (
            Segmenter.load(package, F32, confidence=True).segment(photo)
            for package in (model, calibrated)
        )
        np.testing.assert_array_equal(old.mask, new.mask)
        assert new.confidence.mean < old.confidence.mean

    def test_confidences_are_those_of_tempered_logits(self, calibrated, data):
        photo = Image.open(data / "val" / "4.png")
        segmenter = Segmenter.load(calibrated, F32, confidence=True)
        scores = logits_of(segmenter, photo) / calibrated.calibration.temperature
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        expected = (scores.max(axis=1) / scores.sum(axis=1)).reshape(66, 90)
        found = segmenter.segment(photo)
        assert np.abs(found.confidence_image / 255 - expected).max() < 0.51 / 255
        assert found.confidence.mean == pytest.approx(expected.mean(), abs=1e-5)

    def test_the_description_says_how(self, calibrated):
        described = json.loads((calibrated.path / DESCRIPTION_FILE).read_text())["calibration"]
        assert described["made"]["data"][0].startswith("24 photos of drawn")
        assert described["made"]["pixels"] == 24 * 4096
        assert described["made"]["precision"] == "f32"
        assert load_package(calibrated.path).calibration == calibrated.calibration

    def test_about_one_in_a_hundred_of_those_photos_is_unlike_them(self, calibrated, data):
        segmenter = Segmenter.load(calibrated, F32)
        found = [
            segmenter.segment(Image.open(file)).uncertainty
            for file in sorted((data / "val").iterdir())
        ]
        assert sum(each.is_unlike for each in found) == 1
        highest = max(found, key=lambda each: each.entropy)
        assert highest.is_unlike and 0 < highest.entropy < 1

    def test_it_is_the_same_every_time(self, calibrated, photos, tmp_path):
        again = calibrate(calibrated, [photos], tmp_path / "again", F32)
        assert again.calibration == calibrated.calibration

    def test_labels_that_say_one_of_several_classes_tell_it_too(
        self, model, data, photos, tmp_path
    ):
        names = model.classes.names
        group = "|".join(names[12:])
        rows = [f"{n},{name if n < 12 else group}" for n, name in enumerate(names)]
        text = "\n".join(["value,class", *rows])
        partial = list_split(data, "val", CLASSES, LabelMapping.parse(text, "m", model.classes))
        for sets in ([partial], [partial, photos]):
            found = calibrate(model, sets, tmp_path / "new", F32).calibration
            assert found.temperature == pytest.approx(TEMPERATURE, rel=0.1)
            assert len(found.made["data"]) == len(sets)

    def test_an_int8_network_stays_and_so_does_a_calibration(
        self, int8_model, calibrated, tmp_path
    ):
        with_int8 = load_package(int8_model)
        made = add_calibration(with_int8, tmp_path / "new", calibrated.calibration)
        assert (made.networks, made.precisions) == (with_int8.networks, with_int8.precisions)
        (network,) = with_int8.networks
        content = dict(zip(network.files, with_int8.read_files(network), strict=True))
        again = add_network(calibrated, tmp_path / "other", network, content, {})
        assert again.calibration == calibrated.calibration

    def test_probabilities_are_calibrated_as_logits_are(self, make_photo, tmp_path):
        models = [giving_scores(tmp_path / "logits"), giving_probabilities(tmp_path / "after")]
        draw_labels(tmp_path, models[0], make_photo)
        drawn = list_split(tmp_path, "val", CLASSES)
        logits, after = (
            calibrate(model, [drawn], tmp_path / "new").calibration for model in models
        )
        assert logits.temperature == pytest.approx(TEMPERATURE, rel=0.05)
        assert after.temperature == pytest.approx(logits.temperature, rel=0.01)
        assert after.unlike_above == pytest.approx(logits.unlike_above, rel=0.01)


def pixels(logits: np.ndarray, labels: np.ndarray) -> Pixels:
    return Pixels(logits.astype(np.float32), np.eye(logits.shape[1])[labels] > 0, labels)


class TestNumbers:
    def test_the_temperature_is_that_of_the_highest_likelihood(self):
        random = np.random.default_rng(5)
        logits = random.normal(0, 3, (2000, 4))
        labels = (logits / 0.6 + random.gumbel(size=logits.shape)).argmax(axis=1)
        temperatures = np.linspace(0.3, 1.5, 241)

        def loss(temperature):
            scores = np.exp(logits / temperature)
            return -np.log(scores[np.arange(2000), labels] / scores.sum(axis=1)).mean()

        best = temperatures[np.argmin([loss(each) for each in temperatures])]
        assert fit_temperature(pixels(logits, labels)) == pytest.approx(best, abs=0.005)

    def test_the_error_is_the_mean_distance_of_confidence_and_accuracy(self):
        """Four pixels at 0.8, of which three are right, and two at 0.6, both right."""
        confidences = np.array([0.8, 0.8, 0.8, 0.8, 0.6, 0.6])
        logits = np.log(np.stack([confidences, 1 - confidences], axis=1))
        found = pixels(logits, np.array([0, 0, 0, 1, 0, 0]))
        expected = (4 * 0.05 + 2 * 0.4) / 6
        assert expected_calibration_error(found, 1.0) == pytest.approx(expected, abs=1e-6)

    def test_pixels_of_several_possible_classes_are_no_part_of_the_error(self):
        found = pixels(np.log([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1]))
        found = replace(found, single=np.array([0, IGNORE]))
        assert expected_calibration_error(found, 1.0) == pytest.approx(0.2, abs=1e-6)

    def test_logits_of_a_pixel_that_cannot_be_what_its_label_says(self):
        """A label that the network finds impossible is no reason for infinities."""
        logits = np.tile([[90.0, -90.0]], (100, 1))
        labels = np.array([0] * 90 + [1] * 10)
        with pytest.raises(CalibrationError, match="no temperature from 0.05 to 20"):
            fit_temperature(pixels(logits, labels))


class TestRefusals:
    def test_class_ids_have_no_probabilities(self, class_ids_model, photos, tmp_path):
        with pytest.raises(ValueError, match="gives class ids and no probabilities"):
            calibrate(load_package(class_ids_model), [photos], tmp_path / "new")
        assert not (tmp_path / "new").exists()

    def test_too_few_photos(self, tiny_model, labelled_photos, tmp_path):
        few = list_split(labelled_photos, "val", 3)
        with pytest.raises(CalibrationError, match="found 4 photos in labelled.*/val, .* 20"):
            calibrate(load_package(tiny_model), [few], tmp_path / "new")

    def test_labels_by_chance(self, model, data, tmp_path):
        other = shutil.copytree(data, tmp_path / "data")
        random = np.random.default_rng(0)
        for file in (other / "valannot").iterdir():
            Image.fromarray(random.integers(0, CLASSES, (66, 90), np.uint8)).save(file)
        with pytest.raises(CalibrationError, match="the labels are all right or all by chance"):
            calibrate(model, [list_split(other, "val", CLASSES)], tmp_path / "new")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("sky|road", "no label says of a pixel which one class it is"),
            ("", "no pixel that was looked at in drawn.*/val has a label"),
        ],
    )
    def test_labels_that_say_too_little(self, model, data, tmp_path, text, message):
        rows = [*(f"{value},{text}" for value in range(CLASSES)), "99,sky"]
        mapping = LabelMapping.parse("\n".join(["value,class", *rows]), "m", model.classes)
        mapped = list_split(data, "val", CLASSES, mapping)
        with pytest.raises(CalibrationError, match=message):
            calibrate(model, [mapped], tmp_path / "new")
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"temperature": 0}, "found the calibration.temperature 0, expected a number from"),
            ({"unlike_above": 2}, "found the calibration.unlike_above 2, expected a number from 0"),
            ({"made": "by hand"}, "found the calibration.made 'by hand', expected an object"),
        ],
    )
    def test_a_description_with_other_numbers(self, calibrated, tmp_path, change, message):
        copy = shutil.copytree(calibrated.path, tmp_path / "copy")
        described = json.loads((copy / DESCRIPTION_FILE).read_text())
        described["calibration"] |= change
        (copy / DESCRIPTION_FILE).write_text(json.dumps(described))
        with pytest.raises(PackageError, match=message):
            load_package(copy)
