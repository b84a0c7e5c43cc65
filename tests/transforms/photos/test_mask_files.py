import io
from functools import partial

import cv2
import numpy as np
import pytest
from PIL import Image

from models.classes import CAMVID, IGNORE
from transforms.photos.mask_files import (
    MaskError,
    decode_mask,
    encode_grey,
    encode_mask,
    encode_overlay,
    encode_rgb,
    palette_of,
)

MASK = np.array([[0, 1, 2], [3, 10, IGNORE]], np.uint8)


def colors_of(mask: np.ndarray) -> np.ndarray:
    return np.frombuffer(CAMVID.palette(), np.uint8).reshape(256, 3)[mask]


def flat(color, height=16, width=16) -> Image.Image:
    return Image.new("RGB", (width, height), color)


@pytest.mark.parametrize(
    "mask",
    [
        MASK,
        np.zeros((1, 1), np.uint8),
        np.arange(256, dtype=np.uint8).repeat(40).reshape(20, 512),
        np.random.default_rng(0).integers(0, 256, (20, 3000), np.uint8),
        np.zeros((64, 48), np.uint8)[::2, ::3],
    ],
)
def test_pillow_reads_the_class_ids_and_the_whole_palette(mask):
    image = Image.open(io.BytesIO(encode_mask(mask, CAMVID.palette())))
    assert (image.format, image.mode, image.size) == ("PNG", "P", mask.shape[::-1])
    assert np.array_equal(np.asarray(image), mask)
    assert bytes(image.getpalette("RGB")) == CAMVID.palette()
    assert np.array_equal(np.asarray(image.convert("RGB")), colors_of(mask))


@pytest.mark.parametrize("encode", [partial(encode_mask, palette=CAMVID.palette()), encode_grey])
def test_the_checksums_are_right(encode):
    data = encode(np.random.default_rng(0).integers(0, 256, (50, 30), np.uint8))
    Image.open(io.BytesIO(data)).verify()
    damaged = data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
    with pytest.raises(SyntaxError, match="broken PNG file"):
        Image.open(io.BytesIO(damaged)).verify()


def test_opencv_reads_the_colours_of_the_classes():
    data = np.frombuffer(encode_mask(MASK, CAMVID.palette()), np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    assert np.array_equal(pixels[..., 2::-1], colors_of(MASK))


def test_a_mask_of_few_classes_takes_little_space():
    mask = np.zeros((1000, 1000), np.uint8)
    mask[500:] = 3
    assert len(encode_mask(mask, CAMVID.palette())) < 20_000


@pytest.mark.parametrize("size", [(1, 1), (37, 301)])
def test_a_confidence_image_is_grey_and_keeps_its_values(size):
    values = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    image = Image.open(io.BytesIO(encode_grey(values)))
    assert (image.format, image.mode, image.size) == ("PNG", "L", size[::-1])
    assert np.array_equal(np.asarray(image), values)


def test_an_overlay_is_half_photo_half_class_colour():
    road = np.full((16, 16), CAMVID.names.index("Road"), np.uint8)
    overlay = Image.open(io.BytesIO(encode_overlay(flat((0, 0, 0)), road, CAMVID.palette())))
    assert (overlay.format, overlay.size) == ("JPEG", (16, 16))
    assert np.abs(np.asarray(overlay, int) - np.array([64, 32, 64])).max() <= 3


def test_pixels_without_a_class_stay_as_they_are():
    mask = np.zeros((32, 64), np.uint8)
    mask[:, 32:] = IGNORE
    photo = flat((200, 100, 50), 32, 64)
    overlay = np.asarray(
        Image.open(io.BytesIO(encode_overlay(photo, mask, CAMVID.palette()))), dtype=int
    )
    assert np.abs(overlay[:, 48:] - np.array([200, 100, 50])).max() <= 3
    assert np.abs(overlay[:, :16] - np.array([164, 114, 89])).max() <= 3
    assert photo.getpixel((0, 0)) == (200, 100, 50)


def test_an_overlay_of_one_pixel_is_possible():
    data = encode_overlay(flat((9, 9, 9), 1, 1), np.zeros((1, 1), np.uint8), CAMVID.palette())
    assert Image.open(io.BytesIO(data)).size == (1, 1)


class TestReading:
    MASK = np.array([[0, 1, 255], [2, 2, 0]], np.uint8)
    PALETTE = bytes(range(256)) * 3

    def test_the_values_and_the_palette_are_read_back(self):
        data = encode_mask(self.MASK, self.PALETTE)
        assert np.array_equal(decode_mask(data, width=3, height=2), self.MASK)
        assert palette_of(io.BytesIO(data)) == self.PALETTE

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (encode_mask(MASK.T, PALETTE), "is 2x3, expected 3x2"),
            (encode_rgb(np.zeros((2, 3, 3), np.uint8)), "has mode RGB, expected P"),
            (encode_mask(MASK, PALETTE)[:100], "Truncated|broken|unrecognized|cannot"),
            (b"", "cannot identify image file"),
        ],
    )
    def test_what_is_no_mask_of_the_size_is_one_error(self, data, message):
        with pytest.raises(MaskError, match=message):
            decode_mask(data, width=3, height=2)
