import platform
import sys

import numpy as np
import pytest
from PIL import Image

from models import inputs
from models.graphs import Resize
from models.inputs import (
    ASPECT_RATIOS,
    MOST_EXTREME,
    SHAPE_MULTIPLE,
    InputSize,
    network_shape,
    resize,
    resize_pixels,
)

SIZES = [
    *[(4000, 3000), (3000, 4000), (1920, 1080), (2048, 1024), (4096, 2048), (480, 360), (640, 640)],
    *[(1, 1), (10_000, 20), (20, 10_000), (12_000, 9_000), (1, 65_535), (333, 517), (31, 29)],
]


@pytest.mark.parametrize("nominal", [(480, 352), (96, 64), (1024, 512), (32, 32), (8, 8)])
@pytest.mark.parametrize("size", SIZES)
def test_shapes_are_multiples_with_about_the_area_of_the_nominal_input(size, nominal):
    height, width = network_shape(*size, *nominal)
    assert height % SHAPE_MULTIPLE == width % SHAPE_MULTIPLE == 0
    assert height > 0 and width > 0
    if min(nominal) >= 352:
        assert height * width == pytest.approx(nominal[0] * nominal[1], rel=0.15)


def test_photos_of_all_sizes_share_few_shapes():
    random = np.random.default_rng(0)
    sizes = random.integers(1, 10_000, (5000, 2))
    shapes = {network_shape(int(width), int(height), 480, 352) for width, height in sizes}
    assert 1 < len(shapes) <= len(ASPECT_RATIOS)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((4000, 3000), (352, 480)),
        ((3000, 4000), (480, 352)),
        ((500, 500), (416, 416)),
        ((2048, 1024), (288, 576)),
        ((10_000, 20), (288, 576)),
        ((20, 10_000), (576, 288)),
    ],
)
def test_a_photo_takes_the_shape_nearest_to_its_own(size, shape):
    assert network_shape(*size, 480, 352) == shape


@pytest.mark.parametrize("size", [(4000, 3000), (1600, 900), (700, 701)])
def test_a_turned_photo_takes_the_turned_shape(size):
    assert network_shape(*size[::-1], 480, 352) == network_shape(*size, 480, 352)[::-1]


@pytest.mark.parametrize("size", [(1, 1), (64, 32), (333, 517), (3000, 20)])
def test_a_resized_photo_has_the_shape_and_the_colour(size):
    pixels = resize(Image.new("RGB", size, (10, 100, 200)), (32, 64))
    assert pixels.shape == (32, 64, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - [10, 100, 200]).max() <= 1


def test_fine_texture_is_averaged_not_sampled():
    chequered = (np.indices((640, 640)).sum(axis=0) % 2 * 255).astype(np.uint8)
    pixels = resize(Image.fromarray(chequered).convert("RGB"), (64, 64))
    assert np.abs(pixels.astype(int) - 127).max() <= 3


def test_a_photo_of_the_right_shape_stays_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    assert np.array_equal(resize(Image.fromarray(pixels), (32, 64)), pixels)


@pytest.mark.parametrize("size", [(250, 120), (111, 97), (70, 40), (64, 32), (31, 29), (1, 1)])
def test_an_array_is_resized_like_an_image_with_the_library_and_without(size, monkeypatch):
    pixels = np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), np.uint8)
    expected = resize(Image.fromarray(pixels), (32, 64)).astype(int)
    for library in (inputs.cykooz_resizer, None):
        monkeypatch.setattr(inputs, "cykooz_resizer", library)
        resized = resize_pixels(pixels, (32, 64))
        assert resized.shape == (32, 64, 3) and resized.dtype == np.uint8
        assert np.abs(resized - expected).max() <= 2


def test_the_library_for_arrays_is_there_where_it_has_a_wheel():
    wheel = sys.platform != "linux" or platform.machine() == "x86_64"
    assert (inputs.cykooz_resizer is not None) == wheel


@pytest.mark.parametrize("size", SIZES)
def test_an_open_network_gets_the_shapes_of_all_networks(size):
    taken = InputSize(480, 352)
    assert taken.photo_shape(*size) == network_shape(*size, 480, 352)
    assert taken.nominal_shape == (352, 480) and not taken.is_single


@pytest.mark.parametrize("size", SIZES)
def test_a_network_of_one_size_gets_this_one(size):
    taken = InputSize(513, 257, open=False)
    assert taken.photo_shape(*size) == taken.nominal_shape == (257, 513)
    assert taken.is_single


@pytest.mark.parametrize("size", SIZES)
def test_a_shape_may_keep_the_ratio_of_the_photo(size):
    height, width = InputSize(480, 352, Resize.KEEP_ASPECT).photo_shape(*size)
    assert height % SHAPE_MULTIPLE == width % SHAPE_MULTIPLE == 0
    assert height * width == pytest.approx(352 * 480, rel=0.25)
    wanted = min(max(size[0] / size[1], 1 / MOST_EXTREME), MOST_EXTREME)
    assert (width - SHAPE_MULTIPLE) / (height + SHAPE_MULTIPLE) < wanted
    assert (width + SHAPE_MULTIPLE) / max(1, height - SHAPE_MULTIPLE) > wanted


@pytest.mark.parametrize("open_size", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_a_padded_photo_fits_and_touches_two_edges(size, open_size):
    taken = InputSize(480, 352, Resize.PAD, open_size, padding=(1, 2, 3))
    height, width = taken.photo_shape(*size)
    assert 1 <= height <= 352 and 1 <= width <= 480 and (height == 352 or width == 480)
    scale = min(480 / size[0], 352 / size[1])
    assert abs(height - size[1] * scale) < 1 and abs(width - size[0] * scale) < 1
    photo = np.full((height, width, 3), 200, np.uint8)
    padded = taken.pad(photo)
    assert padded.shape == (352, 480, 3) and taken.is_single
    np.testing.assert_array_equal(padded[:height, :width], photo)
    assert (padded[height:] == (1, 2, 3)).all() and (padded[:, width:] == (1, 2, 3)).all()


def test_what_has_its_shape_is_not_padded():
    whole = np.zeros((352, 480, 3), np.uint8)
    assert InputSize(480, 352, Resize.PAD).pad(whole) is whole
    other = np.zeros((96, 64, 3), np.uint8)
    assert InputSize(480, 352).pad(other) is other
