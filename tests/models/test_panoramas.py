"""Panoramas: measured against spheres of closed form, and segmented without a seam."""

import math

import numpy as np
import pytest

from models import panoramas
from models.engines import load_engine
from models.packages import load_package
from models.panoramas import Panorama, measure_on_sphere
from models.tiling import segment_windows
from models.upsampling import logits_to_confidence, logits_to_mask

WHOLE = Panorama()
SKY, OTHER = 0, 1
HEIGHT, WIDTH = 180, 360


def cap(half_angle: float, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A mask of sky around the zenith, up to an angle that is an edge between rows."""
    mask = np.full((height, width), OTHER, np.uint8)
    mask[: round(height * half_angle / math.pi)] = SKY
    return mask


def random_mask(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 5, (height, width)).astype(np.uint8)


class TestSolidAngles:
    @pytest.mark.parametrize("degrees", [1, 30, 45, 90, 120, 180])
    def test_a_cap_around_the_zenith_is_that_of_the_textbook(self, degrees):
        t = math.radians(degrees)
        found = measure_on_sphere(cap(t), WHOLE, 2, [SKY])
        assert found.solid_angles[SKY] == pytest.approx(math.tau * (1 - math.cos(t)), rel=1e-12)
        assert sum(found.solid_angles) == pytest.approx(2 * math.tau, rel=1e-12)

    @pytest.mark.parametrize("size", [(1, 2), (7, 15), (500, 1000)])
    def test_all_of_a_whole_panorama_add_up_to_the_sphere(self, size):
        found = measure_on_sphere(random_mask(*size), WHOLE, 5, None)
        assert sum(found.solid_angles) == pytest.approx(2 * math.tau, rel=1e-12)

    def test_columns_count_alike_and_rows_by_their_latitude(self):
        mask = np.full((4, 8), OTHER, np.uint8)
        mask[1, 5] = mask[2, 0] = SKY
        angles = measure_on_sphere(mask, WHOLE, 2, []).solid_angles
        assert angles[SKY] == pytest.approx(2 * math.sin(math.pi / 4) * math.tau / 8, rel=1e-12)

    def test_a_part_measures_what_it_measures_in_the_whole(self):
        mask = random_mask()
        part = Panorama(math.pi / 4, -math.pi / 6, math.pi / 2)
        found = measure_on_sphere(mask[45:120, :90], part, 5, None).solid_angles
        outside = mask + np.uint8(5)
        outside[45:120, :90] = mask[45:120, :90]
        whole = measure_on_sphere(outside, WHOLE, 10, None).solid_angles
        assert found == pytest.approx(whole[:5], rel=1e-9)

    def test_a_class_without_pixels_has_none(self):
        assert measure_on_sphere(cap(math.pi), WHOLE, 3, [SKY]).solid_angles[1:] == (0, 0)


class TestSkyViewFactor:
    @pytest.mark.parametrize("degrees", [1, 30, 45, 60, 90, 135, 180])
    def test_of_a_cap_around_the_zenith_is_the_squared_sine(self, degrees):
        found = measure_on_sphere(cap(math.radians(degrees)), WHOLE, 2, [SKY]).sky_view_factor
        assert found == pytest.approx(math.sin(math.radians(min(degrees, 90))) ** 2, rel=1e-12)

    def test_a_hemisphere_of_sky_is_half_of_the_sphere_and_all_that_is_above(self):
        found = measure_on_sphere(cap(math.pi / 2), WHOLE, 2, [SKY])
        assert found.solid_angles[SKY] / sum(found.solid_angles) == pytest.approx(0.5, rel=1e-12)
        assert found.sky_view_factor == pytest.approx(1, rel=1e-12)

    def test_a_row_across_the_horizon_counts_with_its_upper_half(self):
        found = measure_on_sphere(np.full((3, 6), SKY, np.uint8), WHOLE, 1, [SKY])
        assert found.sky_view_factor == pytest.approx(1, rel=1e-12)

    @pytest.mark.parametrize(
        "shown",
        [
            Panorama(extent=math.pi),
            Panorama(top=math.radians(80)),
            Panorama(bottom=math.radians(10)),
        ],
    )
    def test_is_unknown_where_the_upper_hemisphere_is_not_wholly_seen(self, shown):
        mask = np.full((9, 9), SKY, np.uint8)
        assert measure_on_sphere(mask, shown, 1, [SKY]).sky_view_factor is None

    def test_is_known_without_the_lower_hemisphere(self):
        found = measure_on_sphere(np.full((9, 36), SKY, np.uint8), Panorama(bottom=0.0), 1, [SKY])
        assert found.sky_view_factor == pytest.approx(1, rel=1e-12)

    def test_is_of_all_classes_that_are_sky(self):
        mask = cap(math.pi / 2)
        mask[: len(mask) // 4] = 2
        found = measure_on_sphere(mask, WHOLE, 3, [SKY, 2])
        assert found.sky_view_factor == pytest.approx(1, rel=1e-12)

    def test_is_unknown_to_a_model_without_sky(self):
        assert measure_on_sphere(cap(1.0), WHOLE, 2, []).sky_view_factor is None


class TestCircle:
    """Logits are interpolated across the seam as anywhere else."""

    LOGITS = np.random.default_rng(0).normal(size=(6, 12, 4)).astype(np.float32)

    def on_circle(self, logits, height=61, width=127):
        padded = panoramas.with_margin(logits, 2)
        padded[:, [0, 1, -2, -1]] = 99  # What the network says of the margin counts for nothing.
        return logits_to_mask(padded, height, width, margin=2)

    def test_it_is_the_middle_of_many_turns(self):
        mask, counts = self.on_circle(self.LOGITS)
        turns, _ = logits_to_mask(np.tile(self.LOGITS, (1, 3, 1)), 61, 3 * 127)
        assert (mask == turns[:, 127:-127]).mean() > 0.999
        assert np.array_equal(counts, np.bincount(mask.ravel(), minlength=4))
        assert counts.sum() == mask.size

    def test_turned_logits_give_the_turned_mask(self):
        mask, _ = self.on_circle(self.LOGITS, width=240)
        turned, _ = self.on_circle(np.roll(self.LOGITS, 3, axis=1), width=240)
        assert (np.roll(mask, 60, axis=1) == turned).mean() > 0.999

    def test_a_mask_may_be_narrower_than_the_logits(self):
        mask, counts = self.on_circle(self.LOGITS, 3, 5)
        assert mask.shape == (3, 5) and counts.sum() == 15

    def test_confidences_are_those_of_the_middle_turn(self):
        padded = panoramas.with_margin(self.LOGITS, 2)
        mask, _ = logits_to_mask(padded, 61, 127, margin=2)
        found, sums = logits_to_confidence(padded, mask, margin=2)
        tiled = np.tile(self.LOGITS, (1, 3, 1))
        expected, _ = logits_to_confidence(tiled, np.tile(mask, (1, 3)))
        assert np.abs(found.astype(int) - expected[:, 127:-127]).max() <= 1
        assert sums.sum() / mask.size * 255 == pytest.approx(found.mean(), abs=0.5)

    def test_windows_cover_the_turn(self):
        pixels = np.random.default_rng(1).integers(0, 256, (64, 160, 3), np.uint8)

        def brightness(images):
            means = images.reshape(len(images), images.shape[1] // 4, 4, -1, 4, 3).mean((2, 4))
            return means.astype(np.float32)

        padded = panoramas.with_margin(pixels, 32)
        found, counts = segment_windows(padded, brightness, (64, 96), 128, 320, margin=32)
        logits = panoramas.with_margin(brightness(pixels[None])[0], 8)
        expected, _ = logits_to_mask(logits, 128, 320, margin=8)
        assert np.array_equal(found, expected)
        assert counts.sum() == found.size


def seam(mask: np.ndarray) -> float:
    """Share of the rows in which the left edge has another class than the right one."""
    return float((mask[:, 0] != mask[:, -1]).mean())


def breaks(mask: np.ndarray) -> np.ndarray:
    """The same for all pairs of neighbouring columns."""
    return (mask[:, 1:] != mask[:, :-1]).mean(axis=0)


class TestShippedModel:
    """The default model over a street that goes all around, drawn with shapes across its seam."""

    @pytest.fixture(scope="class")
    def engine(self):
        return load_engine(load_package("default"))

    @pytest.fixture(scope="class")
    def street(self):
        """uint8 `(320, 640, 3)`: sky over road, houses and trees, two of them across the seam."""
        random = np.random.default_rng(5)
        pixels = np.full((320, 640, 3), (150, 180, 220), np.uint8)
        pixels[170:] = (95, 95, 100)
        for left, colour in ((-60, (120, 70, 50)), (180, (40, 90, 30)), (400, (130, 110, 90))):
            columns = np.arange(left, left + 120) % 640
            pixels[60:170, columns] = colour
        return np.clip(pixels + random.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)

    def segment(self, engine, pixels):
        margin = panoramas.margin_of(pixels.shape[1])
        (logits,) = engine.predict(panoramas.with_margin(pixels, margin)[None])
        columns = margin * logits.shape[1] // (pixels.shape[1] + 2 * margin)
        return logits_to_mask(logits, 512, 1024, columns)[0]

    def test_the_seam_is_as_whole_as_any_two_columns(self, engine, street):
        """On average over turns that put no edge of a house at the seam."""
        seams, elsewhere, of_flat = [], [], []
        for turn in range(30, 640, 40):
            turned = np.roll(street, turn, axis=1)
            mask = self.segment(engine, turned)
            seams.append(seam(mask))
            elsewhere.append(breaks(mask).mean())
            of_flat.append(seam(logits_to_mask(engine.predict(turned[None])[0], 512, 1024)[0]))
        assert np.mean(seams) <= max(0.01, np.mean(elsewhere) * 2)
        assert np.mean(of_flat) > 5 * np.mean(seams) + 0.02, "a flat picture has a seam there"

    def test_a_turned_panorama_has_the_turned_mask(self, engine, street):
        mask = self.segment(engine, street)
        turned = self.segment(engine, np.roll(street, 320, axis=1))
        assert (np.roll(turned, 512, axis=1) == mask).mean() > 0.95
