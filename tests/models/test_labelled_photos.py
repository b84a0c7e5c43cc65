from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from models.classes import IGNORE
from models.inputs import InputSize, normalise
from models.label_mappings import target_positions
from models.labelled_photos import count_targets, list_split
from models.training.crops import (
    Augmentation,
    TrainingBatches,
    TrainingSet,
    random_look,
    random_scale_and_crop,
    random_view,
)

CLASSES = 3
AUGMENTATION = Augmentation(InputSize(width=64, height=64), crop=(32, 32))


def write_sample(folder, name, label, split="train"):
    """A photo whose red channel repeats the label, so that both can be compared after changes."""
    label = np.asarray(label, np.uint8)
    pixels = np.zeros((*label.shape, 3), np.uint8)
    pixels[..., 0] = label * 100
    for directory, array in [(split, pixels), (f"{split}annot", label)]:
        (folder / directory).mkdir(exist_ok=True)
        Image.fromarray(array).save(folder / directory / f"{name}.png")


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    for name in "cab":
        blocks = random.integers(0, CLASSES, (3, 4))
        write_sample(tmp_path, name, np.kron(blocks, np.ones((16, 16), int)))
    return list_split(tmp_path, "train", CLASSES)


def test_split_pairs_photos_with_labels_in_order_of_names(photos):
    assert [path.stem for path in photos.images] == ["a", "b", "c"]
    for image, label in zip(photos.images, photos.labels, strict=True):
        assert label.parent.name == "trainannot" and label.stem == image.stem


def test_void_and_ignore_value_become_ignore(tmp_path):
    write_sample(tmp_path, "a", [[0, 1], [CLASSES, IGNORE]])
    photos = list_split(tmp_path, "train", CLASSES)
    _, label = photos.read_sample(0)
    assert label.tolist() == [[0, 1], [IGNORE, IGNORE]]
    assert count_targets(photos).tolist() == [1, 1, 0]


def test_missing_folder_photo_or_label_is_named(tmp_path):
    with pytest.raises(ValueError, match="test: no such folder"):
        list_split(tmp_path, "test", CLASSES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: holds no photo"):
        list_split(tmp_path, "empty", CLASSES)
    write_sample(tmp_path, "a", [[0]])
    (tmp_path / "trainannot" / "a.png").unlink()
    with pytest.raises(
        ValueError, match=r"train/a\.png: has no label; expected .*trainannot/a\.png"
    ):
        list_split(tmp_path, "train", CLASSES)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.zeros((2, 3), np.uint8), "is 3x2, but .* is 2x2"),
        (np.zeros((2, 2, 3), np.uint8), "has mode RGB"),
        (np.full((2, 2), CLASSES + 1, np.uint8), rf"holds \[{CLASSES + 1}\]; expected .* 0\.\.2"),
    ],
)
def test_label_that_does_not_fit_is_named(tmp_path, label, message):
    write_sample(tmp_path, "a", [[0, 0], [0, 0]])
    Image.fromarray(label).save(tmp_path / "trainannot" / "a.png")
    with pytest.raises(ValueError, match=rf"trainannot/a\.png: {message}"):
        list_split(tmp_path, "train", CLASSES).read_sample(0)


def test_many_values_outside_the_class_table_are_not_all_listed(tmp_path):
    write_sample(tmp_path, "a", np.zeros((16, 16)))
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "trainannot" / "a.png")
    with pytest.raises(ValueError, match=r"\[4, 5, 6, 7, 8, 9, 10, 11\] and 243 other values"):
        list_split(tmp_path, "train", CLASSES).read_sample(0)


def test_damaged_photo_is_named(tmp_path):
    write_sample(tmp_path, "a", np.zeros((64, 64)))
    photo = tmp_path / "train" / "a.png"
    photo.write_bytes(photo.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"train/a\.png: cannot be read as an image"):
        list_split(tmp_path, "train", CLASSES).read_sample(0)


def test_photo_and_label_are_cropped_alike(photos):
    image, label = photos.read_sample(0)
    for seed in range(10):
        random = np.random.default_rng(seed)
        pixels, ids = random_scale_and_crop(image, label, AUGMENTATION, random)
        assert pixels.shape == (32, 32, 3) and ids.shape == (32, 32)
        inside = ids != IGNORE
        off = np.abs(pixels[inside, 0].astype(int) - ids[inside].astype(int) * 100)
        assert np.mean(off > 50) < 0.06, "only class borders may be blurred"


def test_frame_smaller_than_the_crop_is_padded_without_class(photos):
    image, label = photos.read_sample(0)
    size = InputSize(width=64, height=64)
    settings = Augmentation(size, crop=(64, 64), scales=(0.5, 0.5), stretches=(1, 1))
    _, ids = random_scale_and_crop(image, label, settings, np.random.default_rng(0))
    assert np.count_nonzero(ids != IGNORE) == 32 * 32


def test_augmentation_repeats_with_its_seed_only(photos):
    def crop(seed):
        random = np.random.default_rng(seed)
        view, _ = random_view(*photos.read_sample(0), AUGMENTATION, random)
        return random_look(view, AUGMENTATION, random)

    assert np.array_equal(crop(1), crop(1))
    assert not np.array_equal(crop(1), crop(2))


def test_a_photo_made_grey_has_the_values_of_one_channel(photos):
    image, _ = photos.read_sample(0)
    settings = replace(AUGMENTATION, grey=1.0, noise=0.0, cast=0.0, blur=0.0, jpeg=0.0)
    looks = [
        random_look(np.asarray(image), settings, np.random.default_rng(seed)) for seed in range(9)
    ]
    assert all(np.ptp(look.astype(int), axis=-1).max() <= 1 for look in looks)
    # Only the red channel of these photos shows anything, so some are black and some are not.
    assert {bool(look.any()) for look in looks} == {True, False}


def test_normalise_is_that_of_the_definition():
    pixels = np.array([[[0, 128, 255]]], np.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    normalised = normalise(pixels, mean, std)
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised, (pixels / 255 - mean) / std, atol=1e-6)


def test_batches_resume_at_an_epoch_with_the_same_crops(photos):
    def batches(first_epoch):
        return TrainingBatches(
            [TrainingSet(photos, 1.0, target_positions(photos.targets, photos.targets))],
            AUGMENTATION,
            batch_size=2,
            mean=(0, 0, 0),
            std=(1, 1, 1),
            seed=7,
            first_epoch=first_epoch,
        )

    running, resumed = batches(0), batches(1)
    assert len(running) == 1
    before = running[0][0]
    running.on_epoch_end()
    images, labels = running[0]
    assert images.shape == (2, 32, 32, 3) and labels.shape == (2, 32, 32)
    assert not np.array_equal(images, before)
    assert np.array_equal(images, resumed[0][0])
