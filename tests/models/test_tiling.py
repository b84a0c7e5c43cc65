import tracemalloc
from collections.abc import Callable

import cv2
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from models.inputs import SHAPE_MULTIPLE
from models.tiling import segment_windows
from models.upsampling import logits_to_mask

WINDOW = (128, 160)
STRIDE = 4


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise at several scales, uint8 RGB."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (-(-height // 16), -(-width // 16), 3))
    pixels = np.kron(coarse, np.ones((16, 16, 1), int))[:height, :width]
    return ((pixels + random.integers(0, 256, pixels.shape)) // 2).astype(np.uint8)


def padded(pixels: np.ndarray, window: tuple[int, int] = WINDOW) -> np.ndarray:
    """Mirrored at the bottom and the right, to whole multiples and one window."""
    missing = [
        (0, max(side, -(-size // SHAPE_MULTIPLE) * SHAPE_MULTIPLE) - size)
        for size, side in zip(pixels.shape, window, strict=False)
    ]
    return np.pad(pixels, [*missing, (0, 0)], "symmetric")


def blurred(images: np.ndarray) -> np.ndarray:
    """A network of numpy: means over 12 x 12 pixels around each 4 x 4 cell, zeros outside."""
    count, height, width, classes = images.shape
    cells = images.reshape(count, height // STRIDE, STRIDE, width // STRIDE, STRIDE, classes)
    means = np.pad(cells.mean((2, 4)), ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [(y, x) for y in range(3) for x in range(3)]
    parts = [means[:, y : y + height // STRIDE, x : x + width // STRIDE] for y, x in shifts]
    return (sum(parts) / 9).astype(np.float32)


def assert_as_in_one_piece(
    mask: np.ndarray, pixels: np.ndarray, predict: Callable, window: tuple[int, int] = WINDOW
) -> None:
    """The mask of a photo, at its size, is that of one piece but where two classes all but tie."""
    assert mask.shape == pixels.shape[:2]
    piece = padded(pixels, window)
    logits = cv2.resize(predict(piece[None])[0], piece.shape[1::-1])[: len(mask), : mask.shape[1]]
    chosen = np.take_along_axis(logits, mask[..., None].astype(int), axis=2)[..., 0]
    assert (logits.max(axis=2) - chosen).max() <= 1e-5 * np.ptp(logits)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 420), st.integers(1, 420), st.integers(1, 5), st.integers(0, 9))
def test_photos_of_any_size_are_segmented_as_in_one_piece(height, width, batch_size, seed):
    pixels = photo(height, width, seed)
    mask, counts = segment_windows(pixels, blurred, WINDOW, height, width, batch_size)
    assert mask.dtype == np.uint8 and counts.dtype == np.int64
    assert np.array_equal(counts, np.bincount(mask.ravel(), minlength=3))
    assert_as_in_one_piece(mask, pixels, blurred)


@pytest.mark.parametrize("window", [(32, 32), (32, 96), (64, 64), (96, 224), (512, 256)])
def test_windows_of_any_shape_leave_no_seams(window):
    pixels = photo(300, 500)

    def brightness(images: np.ndarray) -> np.ndarray:
        return np.concatenate([images, 255 - images], axis=3).astype(np.float32)

    mask, _ = segment_windows(pixels, brightness, window, 300, 500)
    assert_as_in_one_piece(mask, pixels, brightness, window)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """Strided convolutions whose padding leaves traces, as in real networks; sees 7 pixels far."""
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(8, 3, 2, padding="same", activation="relu", bias_initializer="normal")(x)
    x = layers.Conv2D(8, 3, 2, padding="same", activation="relu", bias_initializer="normal")(x)
    logits = layers.Conv2D(5, 1, kernel_initializer=keras.initializers.RandomNormal(0, 3))(x)
    return keras.Model(image, logits)


def predicted(network: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    return lambda images: np.asarray(network(images.astype(np.float32)))


@pytest.mark.parametrize(("height", "width"), [(320, 448), (389, 131), (127, 513)])
def test_a_network_that_sees_no_further_than_the_margin_sees_no_windows(network, height, width):
    pixels = photo(height, width)
    mask, counts = segment_windows(pixels, predicted(network), WINDOW, height, width, 3)
    assert np.count_nonzero(counts) > 2
    assert_as_in_one_piece(mask, pixels, predicted(network))


def test_a_network_that_sees_the_whole_window_differs_a_little():
    def distant(images: np.ndarray) -> np.ndarray:
        logits = np.zeros((len(images), *(side // 4 for side in images.shape[1:3]), 2), np.float32)
        logits[..., 1] = images[:, ::4, ::4, 0] - images.mean((1, 2, 3))[:, None, None]
        return logits

    pixels = photo(320, 448)
    mask, _ = segment_windows(pixels, distant, WINDOW, 320, 448)
    expected, _ = logits_to_mask(distant(pixels[None])[0], 320, 448)
    assert 0.9 < (mask == expected).mean() < 1


@pytest.mark.parametrize(
    ("threshold", "column"), [(0.01, 44), (0.25, 46), (0.5, 48), (0.75, 50), (0.99, 52)]
)
def test_logits_fade_from_window_to_window(threshold, column):
    """Windows overlap in columns 32 to 63: 12 are dropped on either side, between is the ramp."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, 32:] = 1

    def second_window(images: np.ndarray) -> np.ndarray:
        logits = np.zeros((*images.shape[:3], 2), np.float32)
        logits[..., 1] = images[:, :1, :1, 0] - threshold
        return logits

    mask, _ = segment_windows(pixels, second_window, (64, 64), 64, 96)
    assert np.array_equal(mask, np.tile(np.arange(96) >= column, (64, 1)))


@pytest.mark.parametrize("size", [(320, 448), (100, 90), (777, 1001)])
def test_the_mask_has_any_size(size):
    pixels = np.zeros((300, 420, 3), np.uint8)
    pixels[:150, :210] = 255

    def bright(images: np.ndarray) -> np.ndarray:
        return np.stack([255 - images[..., 0], images[..., 0]], axis=3).astype(np.float32)

    mask, counts = segment_windows(pixels, bright, WINDOW, *size)
    assert mask.shape == size and counts.sum() == mask.size
    expected, _ = logits_to_mask(bright(pixels[None])[0], *size)
    assert np.array_equal(mask, expected)


def peak(height: int, width: int) -> int:
    """Most bytes in use beside photo and mask."""
    pixels = np.zeros((height, width, 3), np.uint8)
    segment_windows(pixels[:200], blurred, WINDOW, 200, width)
    tracemalloc.start()
    segment_windows(pixels, blurred, WINDOW, height, width)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most - height * width


def test_memory_does_not_grow_with_the_height_of_the_photo():
    low, high = peak(800, 800), peak(8000, 800)
    assert high < low + 72 * 8000
    assert high < 8000 * 800 * 3 / 4


def test_a_window_of_a_wrong_size_is_refused():
    with pytest.raises(ValueError, match=r"100 pixels, expected a multiple of 32"):
        segment_windows(photo(64, 64), blurred, (128, 100), 64, 64)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="not finite"):
        segment_windows(photo(64, 64), lambda i: blurred(i) + value, WINDOW, 64, 64)
