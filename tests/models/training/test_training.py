import csv
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from models.classes import IGNORE, ClassTable
from models.engines import EngineOptions, Precision, openvino
from models.evaluation import evaluate
from models.label_mappings import LabelMapping
from models.labelled_photos import list_split
from models.networks import ARCHITECTURES, build_network
from models.packages import load_package
from models.training import (
    DataSet,
    TeacherModel,
    TrainingConfig,
    copy_layers,
    train,
    write_trained_package,
)
from models.training.data import load_data
from models.training.epochs import EpochKeeper
from models.training.unlabelled_photos import find_photos

CLASSES = ClassTable.of([("Left", (255, 0, 0)), ("Right", (0, 0, 255))])


def build(classes, width=1.0):
    image = keras.Input((None, None, 3))
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
        data=(DataSet("data", tmp_path / "data"),),
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
    losses = [float(row["loss"]) for row in log]
    assert np.mean(losses[-3:]) < 0.3 * losses[0]
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
    single = EngineOptions(precision=Precision.F32)
    photos = list_split(config.data[0].directory, "val", 2)
    measured = evaluate(package, photos, single)
    assert measured.to_dict().items() <= package.metrics.items()
    assert package.metrics["split"] == "val"
    assert package.metrics["images_per_second"] > 0 and package.metrics["machine"]
    assert package.metrics["images"] == 8
    if openvino.runs_in(Precision.BF16):
        half = evaluate(package, photos, EngineOptions(precision=Precision.BF16))
        assert package.loss("bf16") == measured.miou - half.miou
    else:
        assert package.precisions == {}


@pytest.mark.parametrize("with_checkpoint", [False, True])
def test_interrupted_training_resumes_to_the_same_weights(
    config, tmp_path, monkeypatch, with_checkpoint
):
    config = replace(config, epochs=4, validate_every=1)
    whole = train(replace(config, output_dir=tmp_path / "whole"))

    save = EpochKeeper._save_checkpoint

    def save_then_stop(self, epoch):
        if epoch != 2 or with_checkpoint:
            save(self, epoch)
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EpochKeeper, "_save_checkpoint", save_then_stop)
        train(config)
    resumed = train(config)
    assert resumed.epoch == whole.epoch
    for a, b in zip(resumed.network.get_weights(), whole.network.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert len(list(config.output_dir.glob("checkpoint-*"))) == 1
    assert [row["epoch"] for row in read_log(config)] == ["1", "2", "3", "4"]


def test_other_data_sets_train_what_their_mapping_says(config, tmp_path):
    """The second data set knows blue things only under another number, and green ones as either.

    Green is labelled as one or the other alone, which no network can be blamed for.
    """
    other = tmp_path / "other"
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (other / folder).mkdir(parents=True)
        for index in range(8):
            label = np.full((32, 32), 7, np.uint8)
            label[:, 4 + 2 * index :] = 9
            pixels = np.where(label[..., None] == 7, np.uint8([0, 0, 200]), np.uint8([0, 200, 0]))
            Image.fromarray(pixels).save(other / split / f"{index}.png")
            Image.fromarray(label).save(other / f"{split}annot" / f"{index}.png")
    text = "value,class\n7,Right\n9,Left|Right\n"
    mapping = LabelMapping.parse(text, "other.csv", CLASSES)
    data = (*config.data, DataSet("other", other, mapping, 2.0))
    result = train(replace(config, data=data))
    last = read_log(config)[-1]
    scores = [float(last[f"val_miou_{name}"]) for name in ("data", "other")]
    assert float(last["val_miou"]) == pytest.approx(np.mean(scores))
    assert min(scores) > 0.9
    package = write_trained_package(
        tmp_path / "model", result.network, replace(config, data=data), "two", {}
    )
    of_sets = package.metrics["data_sets"]
    assert of_sets["data"]["miou"] == package.metrics["miou"]
    assert [entry["name"] for entry in of_sets["other"]["classes"]] == ["Right", "Left|Right"]


def test_photos_without_labels_are_learned_from_a_teacher(config, tmp_path):
    taught = train(config)
    write_trained_package(tmp_path / "teacher", taught.network, config, "teacher", {})
    photos = tmp_path / "photos" / "of" / "elsewhere"
    photos.mkdir(parents=True)
    for index in range(4):
        pixels = np.full((32, 32, 3), (0, 0, 200) if index % 2 else (200, 0, 0), np.uint8)
        Image.fromarray(pixels).save(photos / f"{index}.png")
    student = replace(
        config,
        output_dir=tmp_path / "student",
        teachers=(TeacherModel(str(tmp_path / "teacher")),),
        unlabelled=(tmp_path / "photos",),
    )
    assert load_data(student).photos == 12
    assert train(student).miou > 0.9


@pytest.mark.parametrize("content", [None, "nothing", "damaged"])
def test_a_folder_without_photos_is_refused(tmp_path, content):
    folder = tmp_path / "photos"
    if content:
        folder.mkdir()
    if content == "damaged":
        (folder / "a.jpg").write_bytes(b"no photo")
    expected = {
        None: "photos: cannot be read .No such file.*Give a folder",
        "nothing": "photos: holds no photo; expected PNG or JPEG files",
        "damaged": "a.jpg: cannot be read as an image",
    }
    with pytest.raises(ValueError, match=expected[content]):
        find_photos(folder)


def test_a_training_of_another_network_is_not_resumed(config, monkeypatch):
    config = replace(config, epochs=1)
    train(config)
    with pytest.raises(ValueError, match="holds a training of tiny, width 1.0, 2 classes, not of"):
        train(replace(config, architecture="fcn8s", width=0.125, epochs=2))


def test_training_stops_when_val_does_not_get_better(config):
    result = train(replace(config, epochs=30, patience=6, learning_rate=1e-9))
    epochs = len(read_log(config))
    assert epochs == result.epoch + 6 < 30
    again = train(replace(config, epochs=30, patience=6, learning_rate=1e-9))
    assert again.epoch == result.epoch and len(read_log(config)) == epochs


def test_a_fixed_seed_reproduces_the_training(config, tmp_path):
    config = replace(config, epochs=2)
    one, two, other = (
        train(replace(config, output_dir=tmp_path / f"out{run}", seed=seed)).network.get_weights()
        for run, seed in enumerate((5, 5, 6))
    )
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_mixed_precision_trains_float32_weights_and_leaves_no_trace(config):
    before = keras.config.dtype_policy().name
    result = train(replace(config, epochs=3, precision="mixed_bfloat16"))
    assert all(weight.dtype == np.float32 for weight in result.network.get_weights())
    assert keras.config.dtype_policy().name == before
    log = read_log(config)
    assert float(log[-1]["loss"]) < float(log[0]["loss"])


def test_training_starts_from_a_model_and_keeps_what_does_not_fit(config, tiny_model):
    package = load_package(tiny_model)
    network = build_network("efficientnet_fpn", classes=2, width=package.width)
    kept = copy_layers(package, network)
    assert kept == ["logits"]
    source = package.build_network()
    for name in ("stem_conv", "head_pointwise_conv"):
        (a,), (b,) = (model.get_layer(name).get_weights() for model in (source, network))
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="no layer of it fits .* same architecture and width"):
        train(replace(config, start_from=str(tiny_model)))


def test_frozen_layers_keep_what_they_start_with(config, tiny_model):
    small = replace(
        config,
        architecture="efficientnet_fpn",
        width=load_package(tiny_model).width,
        start_from=str(tiny_model),
        epochs=1,
    )
    source = load_package(tiny_model).build_network()
    trained = train(replace(small, freeze_up_to="block_4_output")).network
    for before, after in zip(source.layers, trained.layers, strict=True):
        pairs = list(zip(before.get_weights(), after.get_weights(), strict=True))
        if before.name in ("stem_conv", "stem_bn", "block_1_expand_conv", "block_4_project_bn"):
            assert pairs and all(np.array_equal(a, b) for a, b in pairs)
        if before.name in ("block_5_expand_conv", "block_5_expand_bn", "lateral_8_conv"):
            assert not any(np.array_equal(a, b) for a, b in pairs)
    with pytest.raises(ValueError, match="no layer 'block_4' .*block_4_"):
        train(replace(small, output_dir=config.output_dir / "other", freeze_up_to="block_4"))


def test_running_out_of_memory_says_what_to_change(config, monkeypatch):
    def exhausted(*_, **__):
        raise MemoryError("cannot allocate")

    monkeypatch.setattr(keras.Model, "fit", exhausted)
    with pytest.raises(ValueError, match="out of memory with 4 crops of 32x32 .*such as 2"):
        train(config)
