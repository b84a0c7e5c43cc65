"""The segmenter without Beam: the same masks in one call, in steps, in batches and in windows."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from models.classes import ClassTable
from models.engines import DeviceMask, Precision
from models.graphs import Resize
from models.inputs import InputSize, resize
from models.packages import Calibration, load_package
from models.panoramas import Panorama
from models.segmenter import NetworkInput, Segmenter
from models.uncertainty import Uncertainty, grid_step
from models.upsampling import ids_to_mask, logits_to_mask
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


class Masks(Brightness):
    """The same, with masks made by the engine."""

    precision = Precision.F32

    def predict_masks(self, images, sizes, margin=0):
        step = grid_step(images.shape[1] // 8, images.shape[2] // 8)
        return [
            DeviceMask(*logits_to_mask(logits, *size), logits[::step, ::step])
            for logits, size in zip(self.predict(images), sizes, strict=False)
        ]


def test_uncertainty_is_that_of_the_logits_whoever_makes_the_mask():
    """Logits are far apart where it is bright or dark, and equal where it is grey: in the half."""
    calibration = Calibration(2.0, 0.1, 0.1, 0.4, {})
    pixels = bright_left()
    pixels[:64] = 128
    for engine in (Brightness(), Masks()):
        found = Segmenter(engine, CLASSES, SIZE, calibration=calibration).segment(pixels)
        assert found.uncertainty == Uncertainty(pytest.approx(0.5, abs=0.05), True)
        assert Segmenter(engine, CLASSES, SIZE).segment(pixels).uncertainty is None
        sure = Segmenter(engine, CLASSES, SIZE, calibration=calibration).segment(bright_left())
        assert not sure.uncertainty.is_unlike and sure.uncertainty.entropy < 0.01


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


class Colours:
    """Scores of red, green and blue at the first pixel of each cell.

    Args:
        shape: the only one that it takes, if not None.
        stride: pixels of a cell's side.
        ids: whether it gives class ids.
    """

    batch_size = streams = 2

    def __init__(self, shape=None, stride: int = 1, ids: bool = False):
        self.shape, self.stride, self.ids = shape, stride, ids

    def predict(self, images):
        assert self.shape in (None, images.shape[1:3])
        scores = images[:, :: self.stride, :: self.stride].astype(np.float32)
        return scores.argmax(-1).astype(np.uint8) if self.ids else scores


RGB = ClassTable.of([("Red", (255, 0, 0)), ("Green", (0, 255, 0)), ("Blue", (0, 0, 255))])


def fields(width: int, height: int, side: int) -> np.ndarray:
    """A photo of fields of red, green and blue."""
    random = np.random.default_rng(1)
    ids = random.integers(0, 3, (-(-height // side), -(-width // side)))
    pixels = np.full((*ids.shape, 3), 30, np.uint8)
    np.put_along_axis(pixels, ids[..., None], 200, axis=2)
    return pixels.repeat(side, 0).repeat(side, 1)[:height, :width]


ONE_SIZE = InputSize(64, 96, open=False)


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("size", [(64, 96), (150, 100), (33, 77), (1, 5), (640, 7)])
@pytest.mark.parametrize("network", [(64, 96), (97, 65), (40, 40)])
def test_the_mask_of_a_padded_photo_is_that_of_the_photo_alone(size, network, ids):
    """What is padded is no neighbour of the photo's last cells."""
    width, height = size
    padding = InputSize(*network, Resize.PAD, open=False, padding=(0, 0, 255))
    photo = fields(width, height, 9)
    found = Segmenter(Colours(network[::-1], ids=ids), RGB, padding).segment(photo)
    rows, columns = padding.photo_shape(width, height)
    assert rows == network[1] or columns == network[0]
    alone = resize(Image.fromarray(photo), (rows, columns))
    (scores,) = Colours(ids=ids).predict(alone[None])
    expected = (
        ids_to_mask(scores, 3, height, width) if ids else logits_to_mask(scores, height, width)
    )
    np.testing.assert_array_equal(found.mask, expected[0])
    assert found.pixels == tuple(expected[1]) and sum(found.pixels) == width * height


def test_the_confidence_of_a_padded_photo_is_that_of_the_photo_alone():
    padding = InputSize(64, 64, Resize.PAD, open=False)
    found = Segmenter(Colours((64, 64)), RGB, padding, confidence=True).segment(fields(80, 40, 9))
    alone = Segmenter(Colours(), RGB, InputSize(64, 32, open=False), confidence=True).segment(
        fields(80, 40, 9)
    )
    np.testing.assert_array_equal(found.confidence_image, alone.confidence_image)
    assert found.confidence == alone.confidence


@pytest.mark.parametrize("stride", [1, 4, 8])
@pytest.mark.parametrize("height", [20, 40, 50, 99])
def test_padding_is_left_out_at_any_stride(stride, height):
    """A dark photo of one class in bright padding of another; no cell begins in padding alone."""
    padding = InputSize(64, 64, Resize.PAD, open=False, padding=(0, 0, 255))
    photo = np.full((height, 100, 3), (90, 0, 0), np.uint8)
    found = Segmenter(Colours((64, 64), stride), RGB, padding).segment(photo)
    assert found.pixels == (height * 100, 0, 0)


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("size", [(300, 200), (64, 96), (10, 500)])
def test_a_network_of_one_size_gets_all_photos_in_it(size, ids):
    photo = fields(*size, 50)
    found = Segmenter(Colours((96, 64), ids=ids), RGB, ONE_SIZE).segment(photo)
    assert found.mask.shape == size[::-1]
    assert (found.mask == photo.argmax(-1)).mean() > 0.9


def test_the_ratio_of_a_photo_is_kept_where_that_is_asked_for():
    keeping = Segmenter(Colours(), RGB, InputSize(96, 64, Resize.KEEP_ASPECT))
    assert keeping.shape_for(400, 100) == (32, 160)
    assert keeping.segment(fields(400, 100, 50)).mask.shape == (100, 400)


@pytest.mark.parametrize("resize_by", [Resize.STRETCH, Resize.PAD])
@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("network", [(256, 128), (513, 513), (160, 640), (1024, 128)])
def test_a_closed_panorama_has_no_seam_in_a_network_of_one_size(network, ids, resize_by):
    size = InputSize(*network, resize_by, open=False)
    segmenter = Segmenter(Colours(network[::-1], ids=ids), RGB, size)
    photo = fields(512, 256, 64)
    found = segmenter.segment(photo, Panorama())
    assert (found.mask == photo.argmax(-1)).mean() > 0.93
    turned = segmenter.segment(np.roll(photo, 200, axis=1), Panorama())
    assert (np.roll(found.mask, 200, axis=1) == turned.mask).mean() > 0.95
    at_seam = np.roll(photo.argmax(-1), 32, axis=1)[:, 24:40]
    assert (np.roll(found.mask, 32, axis=1)[:, 24:40] == at_seam).mean() > 0.9


def test_a_padded_panorama_keeps_its_proportions():
    size = InputSize(512, 512, Resize.PAD, open=False)
    segmenter = Segmenter(Colours((512, 512)), RGB, size)
    photo = NetworkInput(np.zeros((256, 512, 3), np.uint8), 2000, 1000, Panorama())
    prepared = segmenter.prepare(photo)
    rows, columns = prepared.content
    assert prepared.pixels.shape == (512, 512, 3) and columns == 2 * rows == 448


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize(
    ("network", "stride"), [((65, 65), 1), ((100, 70), 1), ((129, 97), 8), ((129, 97), 4)]
)
def test_windows_of_a_network_of_one_size_that_is_no_multiple(network, stride, ids):
    size = InputSize(*network, open=False)
    windowed = Segmenter(Colours(network[::-1], stride, ids), RGB, size, windows=1.0)
    photo = fields(300, 200, 40)
    found = windowed.segment(photo)
    expected = photo.argmax(-1)
    moved = np.pad(photo, [(stride, 0), (stride, 0), (0, 0)], "edge").argmax(-1)[:200, :300]
    borders = (found.mask != expected) & (found.mask != moved)
    assert borders.mean() < (0.03 if stride > 1 else 1e-4)
    assert sum(found.pixels) == 300 * 200


def test_windows_need_a_stride_that_is_a_power_of_two():
    thirds = Colours((64, 96), stride=3)
    windowed = Segmenter(thirds, RGB, InputSize(96, 64, open=False), windows=1.0)
    with pytest.raises(ValueError, match="gives 22 rows for 64 is not run in windows"):
        windowed.segment(fields(100, 100, 20))
    small = InputSize(31, 500, open=False)
    with pytest.raises(ValueError, match="windows need at least 32x32"):
        Segmenter(Colours(), RGB, small, windows=1.0)
