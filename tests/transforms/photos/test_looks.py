"""Looks: hashes of copies are near each other, those of other photos are far, blur is seen."""

import itertools
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from transforms.flow.records import Look
from transforms.photos.decoding import DEFAULT_MAX_PIXELS, DecodeError
from transforms.photos.looks import difference_hash, look_at, sharpness, small_shape
from transforms.planning.duplicates import MOST_BITS
from transforms.planning.gating import LEAST_SHARPNESS

PHOTOS = sorted(Path(__file__).resolve().parents[3].glob("demo/photos/*/*.jpg"))


def look(photo: Image.Image, format="JPEG", **save) -> Look:
    file = BytesIO()
    photo.save(file, format, **save)
    return look_at(file.getvalue(), DEFAULT_MAX_PIXELS)[0]


def bits(a: Look, b: Look) -> int:
    return (int(a.perceptual_hash, 16) ^ int(b.perceptual_hash, 16)).bit_count()


@pytest.fixture(params=PHOTOS, ids=lambda path: path.stem)
def photo(request) -> Image.Image:
    return Image.open(request.param).convert("RGB")


@pytest.fixture
def street(shared_data) -> list[Image.Image]:
    """Photos of one street, a few metres from one to the next."""
    files = sorted((shared_data / "street_photos" / "lund").glob("*.jpg"))
    return [Image.open(path).convert("RGB") for path in files]


def test_a_copy_looks_like_the_photo(photo):
    own = look(photo, quality=95)
    width, height = photo.size
    cut = (width // 80, height // 80, width - width // 80, height - height // 80)
    for copy in (
        look(photo, quality=40),
        look(photo, "WEBP", quality=70),
        look(photo.resize((width // 2, height // 2))),
        look(photo.crop(cut)),
    ):
        assert bits(own, copy) <= MOST_BITS
        assert len(copy.perceptual_hash) == 64


def test_different_photos_do_not(street):
    looks = [look(photo) for photo in street + [Image.open(path) for path in PHOTOS]]
    assert min(bits(a, b) for a, b in itertools.combinations(looks, 2)) > MOST_BITS


def test_blurred_photos_are_told_from_sharp_ones(photo):
    side = max(photo.size)
    assert look(photo).sharpness > LEAST_SHARPNESS
    assert look(photo.filter(ImageFilter.GaussianBlur(side * 0.004))).sharpness < LEAST_SHARPNESS


def test_motion_in_one_direction_is_blur(photo):
    pixels = np.asarray(photo, np.float32)
    for axis in (0, 1):
        copies = [np.roll(pixels, step, axis) for step in range(round(max(photo.size) * 0.02))]
        moved = Image.fromarray(np.mean(copies, axis=0).astype(np.uint8))
        assert look(moved).sharpness < LEAST_SHARPNESS


def test_sharpness_depends_little_on_size_and_light(photo):
    own = look(photo).sharpness
    assert look(photo.resize((640, round(640 * photo.height / photo.width)))).sharpness == (
        pytest.approx(own, abs=0.05)
    )
    assert look(photo.point(lambda value: value // 2)).sharpness == pytest.approx(own, abs=0.03)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 3), (448, 1), (3000, 20)])
def test_photos_of_any_size_can_be_looked_at(size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    found = look(Image.fromarray(noise), "PNG")
    assert len(found.perceptual_hash) == 64 and 0 <= found.sharpness <= 1


def test_a_photo_of_one_colour_is_not_sharp():
    assert sharpness(np.full((30, 40), 9, np.float32)) == 0
    assert set(difference_hash(np.full((30, 40), 9, np.float32))) == {"0"}


def test_small_photos_are_not_enlarged():
    assert small_shape(100, 60) == (60, 100)
    assert small_shape(4480, 2240) == (224, 448)


def test_what_is_no_photo_cannot_be_looked_at():
    with pytest.raises(DecodeError, match="not an image"):
        look_at(b"text", DEFAULT_MAX_PIXELS)
