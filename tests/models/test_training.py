import csv
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from models.classes import IGNORE, ClassTable
from models.evaluation import evaluate
from models.networks import ARCHITECTURES
from models.packages import load_package
from models.training import (
    TrainingConfig,
    _EpochKeeper,
    class_weights,
    train,
    segmentation_loss,
    write_trained_package,
)

CLASSES = ClassTable.of([("Left", (255, 0, 0)), ("Right", (0, 0, 255))])


def build(classes, input_shape=(None, None, 3), width=1.0):
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(8, 3, 4, padding="same", activation="relu")(image)
    return keras.Model(image, keras.layers.Conv2D(classes, 1)(x))


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A training on photos that are red where the class is 0 and blue where it is 1."""
    monkeypatch.setitem(ARCHITECTURES, "tiny", f"{__name__}:build")
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (tmp_path / "data" / folder).mkdir(parents=True)
        for index in range(8):
            label = np.zeros((32, 32), np.uint8)
            label[:, random.integers(8, 24) :] = 1
            pixels = np.where(label[..., None], np.uint8([0, 0, 200]), np.uint8([200, 0, 0]))
            label[:4] = IGNORE
            Image.fromarray(pixels).save(tmp_path / "data" / split / f"{index}.png")
            Image.fromarray(label).save(tmp_path / "data" / f"{split}annot" / f"{index}.png")
    return TrainingConfig(
        data_dir=tmp_path / "data",
        output_dir=tmp_path / "out",
        classes=CLASSES,
        architecture="tiny",
        input_height=32,
        input_width=32,
        batch_size=4,
        epochs=12,
        learning_rate=0.05,
        validate_every=3,
    )


def read_log(config):
    with (config.output_dir / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_training_learns_and_keeps_the_best_weights(config):
    result = train(config)
    log = read_log(config)
    assert [int(row["epoch"]) for row in log] == list(range(1, 13))
    assert float(log[-1]["loss"]) < 0.3 * float(log[0]["loss"])
    validated = {int(row["epoch"]): float(row["val_miou"]) for row in log if row["val_miou"]}
    assert list(validated) == [3, 6, 9, 12]
    assert result.miou == max(validated.values()) == validated[result.epoch]
    assert result.miou > 0.9
    best = build(2)
    best.load_weights(config.output_dir / "best.weights.h5")
    for kept, returned in zip(best.get_weights(), result.network.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, returned)


def test_package_states_what_it_measures(config, tmp_path):
    network = train(replace(config, epochs=6)).network
    written = write_trained_package(
        tmp_path / "package", network, config, "tiny", {"data": "painted", "epochs": 6}
    )
    package = load_package(tmp_path / "package")
    assert package == written
    assert package.training == {"data": "painted", "epochs": 6}
    measured = evaluate(package, config.data_dir, "val")
    assert package.metrics == {"split": "val", **measured.to_dict()}
    assert package.metrics["images"] == 8


def test_interrupted_training_resumes_to_the_same_weights(config, tmp_path, monkeypatch):
    config = replace(config, epochs=4, validate_every=1)
    whole = train(replace(config, output_dir=tmp_path / "whole"))

    save = _EpochKeeper._save_checkpoint

    def save_then_stop(self, epoch):
        save(self, epoch)
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_EpochKeeper, "_save_checkpoint", save_then_stop)
        train(config)
    resumed = train(config)
    assert resumed.epoch == whole.epoch
    for a, b in zip(resumed.network.get_weights(), whole.network.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert len(list(config.output_dir.glob("checkpoint-*"))) == 1


def test_loss_is_the_weighted_mean_over_labelled_pixels():
    random = np.random.default_rng(0)
    logits = random.normal(size=(2, 4, 4, 3)).astype(np.float32)
    labels = random.integers(0, 3, (2, 4, 4)).astype(np.uint8)
    labels[0, 0] = IGNORE
    weights = np.array([0.5, 1.0, 2.0], np.float32)
    total = norm = 0.0
    for logit, label in zip(logits.reshape(-1, 3), labels.ravel(), strict=True):
        if label != IGNORE:
            probabilities = np.exp(logit) / np.exp(logit).sum()
            total -= weights[label] * np.log(probabilities[label])
            norm += weights[label]
    loss = segmentation_loss(weights)(labels, logits)
    assert float(loss) == pytest.approx(total / norm, rel=1e-5)


def test_loss_of_a_crop_without_labels_is_zero():
    labels = np.full((1, 8, 8), IGNORE, np.uint8)
    loss = segmentation_loss(np.ones(2, np.float32))(labels, np.zeros((1, 2, 2, 2), "f4"))
    assert float(loss) == 0


def test_class_weights_favour_rare_classes_and_keep_the_mean():
    counts = np.array([900, 100, 0])
    weights = class_weights(counts, 0.5)
    assert weights[1] / weights[0] == pytest.approx(3)
    assert weights[2] == 0
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
    np.testing.assert_allclose(class_weights(counts, 0.0), [1, 1, 0])
    with pytest.raises(ValueError, match="no pixel with a class"):
        class_weights(np.zeros(3, int), 0.5)
