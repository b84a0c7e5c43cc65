"""The segmenter without Beam: the same masks in one call, in steps, in batches and in windows."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from models.classes import ClassTable
from models.inputs import InputSize
from models.packages import load_package
from models.panoramas import Panorama
from models.segmenter import NetworkInput, Segmenter
from transforms.photos.decoding import DEFAULT_MAX_PIXELS, decode_photo

CLASSES = ClassTable.of([("Dark", (0, 0, 1)), ("Sky", (9, 9, 9))])
SIZE = InputSize(96, 64)


class Brightness:
    """Sky is where a cell of 8 x 8 pixels is bright; logits of black photos are not finite."""

    batch_size = 4
    streams = 1

    def predict(self, images):
        n, h, w, _ = images.shape
        cells = images.reshape(n, h // 8, 8, w // 8, 8, 3).mean((2, 4, 5)).astype(np.float32)
        cells[images.max((1, 2, 3)) == 0] = np.nan
        return np.stack([128 - cells, cells - 128], axis=-1)


@pytest.fixture
def segmenter() -> Segmenter:
    return Segmenter(Brightness(), CLASSES, SIZE)


def bright_left(width=192, height=128) -> np.ndarray:
    pixels = np.full((height, width, 3), 20, np.uint8)
    pixels[:, : width // 2] = 240
    return pixels


def test_three_lines_segment_a_photo_with_a_shipped_model(tmp_path, make_photo):
    image = Image.open(make_photo(tmp_path / "a.png", 60, 40))
    segmentation = Segmenter.load("default").segment(image)
    assert (segmentation.mask.shape, segmentation.mask.dtype) == ((40, 60), np.uint8)
    assert sum(segmentation.pixels) == 60 * 40
    assert len(segmentation.pixels) == len(load_package("default").classes)


def test_a_photo_is_an_image_or_its_pixels(segmenter):
    of_pixels = segmenter.segment(bright_left())
    of_image = segmenter.segment(Image.fromarray(bright_left()))
    np.testing.assert_array_equal(of_pixels.mask, of_image.mask)
    assert of_pixels.pixels == (192 * 64, 192 * 64)
    assert of_pixels.mask[:, :96].all() and not of_pixels.mask[:, 96:].any()


def test_an_image_is_segmented_as_it_is_displayed(segmenter):
    turned = Image.fromarray(bright_left())
    turned.getexif()[0x0112] = 6
    assert segmenter.segment(turned).mask.shape == (192, 128)
    upright = ImageOps.exif_transpose(turned)
    np.testing.assert_array_equal(segmenter.segment(turned).mask, segmenter.segment(upright).mask)


def test_the_steps_give_what_one_call_gives_in_every_batch(segmenter, tmp_path, make_photo):
    files = [make_photo(tmp_path / f"{n}.png", 192, 128, seed=n) for n in range(3)]
    data = [file.read_bytes() for file in files]
    photos = [decode_photo(each, segmenter.shape_for, DEFAULT_MAX_PIXELS) for each in data]
    answers = segmenter.infer([segmenter.prepare(photo) for photo in photos])
    for file, photo, answer in zip(files, photos, answers, strict=True):
        found = segmenter.finish(answer)
        np.testing.assert_array_equal(found.mask, segmenter.segment(Image.open(file)).mask)
        np.testing.assert_array_equal(found.mask, segmenter.segment_input(photo).mask)


def test_output_that_is_not_finite_is_an_error_of_that_photo_alone(segmenter):
    black = np.zeros((64, 96, 3), np.uint8)
    inputs = [NetworkInput(pixels, 96, 64) for pixels in (black, black + 200)]
    wrong, right = segmenter.infer([segmenter.prepare(photo) for photo in inputs])
    assert isinstance(wrong, ValueError) and "not finite" in str(wrong)
    assert segmenter.finish(right).pixels == (0, 96 * 64)
    with pytest.raises(ValueError, match="not finite"):
        segmenter.segment(black)


def test_windows_segment_at_the_photos_own_resolution():
    windowed = Segmenter(Brightness(), CLASSES, SIZE, windows=1.0)
    assert windowed.shape_for(500, 300) == (300, 500)
    found = windowed.segment(bright_left(512, 320))
    assert found.pixels == (512 * 160, 512 * 160)
    with pytest.raises(ValueError, match="not finite"):
        windowed.segment(np.zeros((320, 512, 3), np.uint8))


def test_confidences_are_those_of_the_mask():
    found = Segmenter(Brightness(), CLASSES, InputSize(96, 64), confidence=True).segment(
        bright_left()
    )
    assert found.confidence_image.shape == found.mask.shape
    assert found.confidence.mean == pytest.approx(found.confidence_image.mean() / 255, abs=0.01)
    with pytest.raises(ValueError, match="exclude each other"):
        Segmenter(Brightness(), CLASSES, SIZE, windows=1.0, confidence=True)


def test_sky_is_known_by_its_meaning():
    """COCO-Stuff has two classes of sky; here every pixel is one of them."""
    classes = ClassTable.load("coco-stuff")

    class Clouds:
        batch_size = streams = 1

        def predict(self, images):
            logits = np.zeros((*images.shape[:3], len(classes)), np.float32)
            logits[:, :, ::2, classes.names.index("clouds")] = 1
            logits[:, :, 1::2, classes.names.index("sky-other")] = 1
            return logits

    found = Segmenter(Clouds(), classes, InputSize(64, 32)).segment(bright_left(64, 32), Panorama())
    assert found.on_sphere.sky_view_factor == pytest.approx(1)


def test_a_panorama_is_measured_on_the_sphere_and_has_no_seam(segmenter):
    pixels = bright_left(256, 128)
    found = segmenter.segment(pixels, Panorama())
    assert sum(found.on_sphere.solid_angles) == pytest.approx(4 * np.pi)
    assert found.on_sphere.sky_view_factor == pytest.approx(0.5, abs=0.02)
    turned = segmenter.segment(np.roll(pixels, 64, axis=1), Panorama())
    np.testing.assert_array_equal(np.roll(found.mask, 64, axis=1), turned.mask)
    assert segmenter.segment(pixels).on_sphere is None
