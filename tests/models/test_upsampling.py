import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import upsampling
from models.upsampling import bands_to_mask, ids_to_mask, logits_to_confidence, logits_to_mask

TIE = 1e-5

SHAPES = [
    ((1, 1, 2), (1, 1)),
    ((1, 1, 3), (7, 5)),
    ((4, 6, 3), (1, 1)),
    ((8, 8, 5), (3, 2)),
    ((8, 8, 5), (8, 8)),
    ((5, 7, 4), (41, 59)),
    ((12, 16, 11), (97, 131)),
    ((2, 30, 3), (20, 10_000)),
    ((30, 2, 3), (10_000, 20)),
    ((3, 5, 255), (16, 24)),
    ((6, 6, 1), (20, 20)),
    ((1, 9, 3), (1, 100)),
    ((6, 9, 2), (40, 70)),
    ((7, 5, 150), (50, 33)),
    ((5, 7, 150), (3, 4)),
]


def made_logits(shape: tuple[int, int, int], blobs: bool, seed: int = 0) -> np.ndarray:
    """Noise, or noise smoothed into areas of one class as networks give them."""
    logits = np.random.default_rng(seed).normal(0, 3, shape).astype(np.float32)
    if blobs:
        for channel in range(shape[2]):
            logits[..., channel] = cv2.blur(logits[..., channel], (5, 5)) * 8
    return logits


def interpolated(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Every class interpolated at every pixel in float64, half-pixel centres, edges repeated."""

    def weights(source: int, target: int) -> np.ndarray:
        positions = (np.arange(target) + 0.5) * source / target - 0.5
        distances = np.abs(positions.clip(0, source - 1)[:, None] - np.arange(source))
        return np.clip(1 - distances, 0, None)

    rows, columns = weights(logits.shape[0], height), weights(logits.shape[1], width)
    return np.einsum("yh,xw,hwc->yxc", rows, columns, logits.astype(np.float64), optimize=True)


def assert_same_but_for_ties(mask: np.ndarray, values: np.ndarray) -> None:
    chosen = np.take_along_axis(values, mask[..., None].astype(int), axis=2)[..., 0]
    assert (values.max(axis=2) - chosen).max() <= TIE
    if values.shape[2] > 1:
        best, second = -np.partition(-values, 1, axis=2)[..., :2].transpose(2, 0, 1)
        clear = best - second > TIE
        assert clear.mean() > 0.9
        assert np.array_equal(mask[clear], values.argmax(axis=2)[clear])


@pytest.mark.parametrize("blobs", [False, True])
@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_the_mask_is_the_argmax_of_the_interpolated_logits(shape, size, blobs):
    logits = made_logits(shape, blobs)
    mask, counts = logits_to_mask(logits, *size)
    assert mask.shape == size and mask.dtype == np.uint8
    assert_same_but_for_ties(mask, interpolated(logits, *size))
    assert counts.dtype == np.int64
    assert np.array_equal(counts, np.bincount(mask.ravel(), minlength=shape[2]))
    assert counts.sum() == size[0] * size[1]


@pytest.mark.parametrize(("shape", "size"), [((5, 7, 4), (41, 59)), ((45, 60, 11), (360, 480))])
def test_the_mask_is_that_of_opencv(shape, size):
    logits = made_logits(shape, blobs=True)
    mask, _ = logits_to_mask(logits, *size)
    resized = cv2.resize(logits, size[::-1], interpolation=cv2.INTER_LINEAR)
    # OpenCV interpolates in float32 with weights of its own rounding.
    chosen = np.take_along_axis(resized, mask[..., None].astype(int), axis=2)[..., 0]
    assert (resized.max(axis=2) - chosen).max() < 1e-3
    assert (mask == resized.argmax(axis=2)).mean() > 0.999


def test_a_class_that_is_highest_at_no_corner_of_a_cell_can_win_inside():
    logits = np.zeros((1, 3, 3), np.float32)
    logits[0, :, 0] = 10, 0, 0
    logits[0, :, 1] = 0, 10, 10
    logits[0, :, 2] = 6, 6, 6
    mask, counts = logits_to_mask(logits, 1, 300)
    assert mask[0, [0, 89, 91, 100, 109, 111, 299]].tolist() == [0, 0, 2, 2, 2, 1, 1]
    assert counts.tolist() == [90, 190, 20]


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=6),
    st.integers(1, 60),
    st.integers(1, 60),
    st.booleans(),
)
def test_logits_in_bands_give_the_same_mask(rows, height, width, blobs):
    logits = made_logits((sum(rows), 7, 4), blobs)
    bands = np.split(logits, np.cumsum(rows)[:-1])
    shape = logits.shape[:2]
    mask, counts = bands_to_mask(iter(bands), shape, shape, height, width)
    expected, expected_counts = logits_to_mask(logits, height, width)
    assert np.array_equal(mask, expected) and np.array_equal(counts, expected_counts)


def test_the_mask_may_end_within_the_logits():
    logits = made_logits((12, 16, 5), blobs=True)
    whole, _ = logits_to_mask(logits, 48, 64)
    for height, width in ((48, 64), (47, 61), (45, 64), (21, 3), (1, 1)):
        extent = height / 4, width / 4
        mask, counts = bands_to_mask(np.split(logits, 3), (12, 16), extent, height, width)
        assert np.array_equal(mask, whole[:height, :width])
        assert counts.sum() == height * width


def test_too_few_bands_are_refused():
    logits = made_logits((5, 7, 4), blobs=False)
    with pytest.raises(ValueError, match=r"bands with 4 rows of logits, expected 5"):
        bands_to_mask([logits[:4]], (5, 7), (5, 7), 20, 20)


def test_boundaries_are_smooth_not_blocks():
    logits = np.zeros((2, 2, 2), np.float32)
    logits[0, 1, 0] = logits[1, 0, 0] = logits[1, 1, 0] = 1
    logits[0, 0, 1] = 1
    mask, _ = logits_to_mask(logits, 64, 64)
    rows_of_class_1 = (mask == 1).sum(axis=0)
    assert len(np.unique(rows_of_class_1)) > 5
    assert (np.diff(rows_of_class_1.astype(int)) <= 0).all()


def test_ties_go_to_the_lower_class_id():
    mask, counts = logits_to_mask(np.zeros((2, 3, 4), np.float32), 9, 9)
    assert not mask.any() and counts.tolist() == [81, 0, 0, 0]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_tiny_and_huge_logits_are_no_matter(scale):
    logits = made_logits((6, 8, 4), blobs=True)
    mask, _ = logits_to_mask(logits * np.float32(scale), 50, 70)
    expected, _ = logits_to_mask(logits, 50, 70)
    assert (mask == expected).mean() > 0.999


def test_any_memory_layout_and_float_type_is_taken():
    logits = made_logits((6, 8, 4), blobs=False)
    expected, _ = logits_to_mask(logits, 33, 44)
    for same in (np.asfortranarray(logits), logits.astype(np.float64), logits[::-1][::-1]):
        assert np.array_equal(logits_to_mask(same, 33, 44)[0], expected)


def test_the_logits_are_left_as_they_are():
    logits = made_logits((6, 8, 4), blobs=False)
    before = logits.copy()
    logits_to_mask(logits, 33, 44)
    assert np.array_equal(logits, before)


def probability_of_chosen(logits: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The softmax at full size, of the class in the mask, in float64."""
    values = interpolated(logits, *mask.shape)
    chosen = np.take_along_axis(values, mask[..., None].astype(int), axis=2)
    with np.errstate(over="ignore"):
        return 1 / np.exp(values - chosen).sum(axis=2)


def assert_confidence(logits: np.ndarray, size: tuple[int, int], tolerance: float) -> None:
    mask, counts = logits_to_mask(logits, *size)
    confidence, sums = logits_to_confidence(logits, mask)
    expected = probability_of_chosen(logits, mask)
    assert (confidence.shape, confidence.dtype, sums.dtype) == (size, np.uint8, np.float64)
    assert np.abs(confidence - 255 * expected).max() <= 0.5 + 255 * tolerance
    expected_sums = np.bincount(mask.ravel(), expected.ravel(), logits.shape[2])
    assert (np.abs(sums - expected_sums) <= tolerance * counts).all()


@pytest.mark.parametrize("blobs", [False, True])
@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_the_confidence_is_the_softmax_of_the_interpolated_logits(shape, size, blobs):
    assert_confidence(made_logits(shape, blobs), size, tolerance=2e-6)


@pytest.mark.parametrize("scale", [1e-30, 0.01, 10])
def test_confidence_at_any_scale_of_the_logits(scale):
    logits = made_logits((6, 8, 4), blobs=False) * np.float32(scale)
    assert_confidence(logits, (50, 70), tolerance=2e-5)


def test_confidence_across_a_cell_as_steep_as_float64_is_deep():
    logits = np.zeros((1, 2, 3), np.float32)
    logits[0, :, 1] = -2000, 2000
    logits[0, :, 2] = 1500, -1500
    assert_confidence(logits, (2, 9000), tolerance=5e-4)


def test_confidence_of_huge_logits_is_full_but_for_ties():
    logits = made_logits((6, 8, 4), blobs=True) * np.float32(1e30)
    mask, counts = logits_to_mask(logits, 50, 70)
    confidence, sums = logits_to_confidence(logits, mask)
    assert (confidence == 255).mean() > 0.99
    np.testing.assert_allclose(sums, counts, rtol=0.01)


def test_confidence_of_ties_and_of_a_single_class():
    for classes, grey in ((4, 64), (1, 255)):
        logits = np.zeros((2, 3, classes), np.float32)
        mask, _ = logits_to_mask(logits, 9, 9)
        confidence, sums = logits_to_confidence(logits, mask)
        assert (confidence == grey).all()
        assert sums.tolist() == [81 / classes, *[0] * (classes - 1)]


def test_confidence_takes_any_memory_layout_and_leaves_its_input_as_it_is():
    logits = made_logits((6, 8, 4), blobs=False)
    mask, _ = logits_to_mask(logits, 33, 44)
    before = logits.copy(), mask.copy()
    expected, sums = logits_to_confidence(logits, mask)
    assert np.array_equal(logits, before[0]) and np.array_equal(mask, before[1])
    for same in (np.asfortranarray(logits), logits.astype(np.float64), logits[::-1][::-1]):
        confidence, same_sums = logits_to_confidence(same, np.asfortranarray(mask))
        assert np.array_equal(confidence, expected) and np.array_equal(same_sums, sums)


LOADS = """
import sys
import numpy as np
from models.upsampling import logits_to_mask, neighbours
assert "numba" not in sys.modules, "Numba is imported without need"
logits_to_mask(np.zeros((2, 3, 4), np.float32), 9, 9)
"""


def test_numba_is_loaded_when_a_mask_is_made_and_not_before():
    subprocess.run([sys.executable, "-c", LOADS], check=True)


def test_a_read_only_package_keeps_its_machine_code_in_the_users_cache(tmp_path):
    copy = tmp_path / "site" / "models"
    copy.mkdir(parents=True)
    for name in ("__init__", "upsampling", "interpolation"):
        shutil.copy(Path(upsampling.__file__).with_name(f"{name}.py"), copy)
    (copy / "__pycache__").write_text("A file in the way, which stops even root.")
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run(
        [sys.executable, "-B", "-c", LOADS], check=True, cwd=copy.parent, env=environment
    )
    assert list((tmp_path / "cache").rglob("interpolation.fill_mask-*.nbc"))


@pytest.mark.parametrize(("margin", "extent"), [(0, None), (0, (3.4, 5.7)), (1, None), (2, (6, 5))])
@pytest.mark.parametrize("size", [(1, 1), (6, 9), (12, 18), (61, 83), (5, 400), (300, 4)])
def test_class_ids_are_like_a_logit_of_one_for_their_class(size, margin, extent):
    ids = np.random.default_rng(2).integers(0, 4, (6, 9), np.uint8)
    one_hot = np.eye(5, dtype=np.float32)[ids]
    mask, counts = ids_to_mask(ids, 5, *size, margin, extent)
    expected, _ = logits_to_mask(one_hot, *size, margin, extent)
    assert (mask.shape, mask.dtype, counts.dtype) == (size, np.uint8, np.int64)
    np.testing.assert_array_equal(counts, np.bincount(mask.ravel(), minlength=5))
    differing = mask != expected
    for mark in (mask, expected):  # Only where two classes have the same share.
        shares = [
            logits_to_mask((one_hot + bias).astype(np.float32), *size, margin, extent)[0]
            for bias in (np.eye(5)[n] * TIE for n in range(5))
        ]
        reachable = np.any([found == mark for found in shares], axis=0)
        assert reachable[differing].all()


def test_class_ids_at_their_own_size_are_the_mask():
    ids = np.random.default_rng(0).integers(0, 200, (37, 53), np.uint8)
    mask, counts = ids_to_mask(ids, 200, 37, 53)
    np.testing.assert_array_equal(mask, ids)
    assert counts.sum() == 37 * 53 and len(counts) == 200
