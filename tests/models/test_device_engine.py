"""The engines for GPUs: masks, memory, overflow and batch sizes, on this machine's CPU.

On the backend of Keras: TensorFlow here, JAX where `test_backends.py` runs this module again.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest
from keras import ops

from models.engines import EngineError, MaskEngine, Precision, jax_device, tiles
from models.engines.batches import MOST_ON_GPU, fitting
from models.engines.device_engine import DeviceEngine, DeviceMaskEngine
from models.engines.devices import JAX
from models.engines.tensorflow_device import TensorFlowDevice
from models.engines.tiles import TILE_WIDTH
from models.inputs import normalise
from models.packages import ModelPackage
from models.upsampling import logits_to_mask
from tests.made_packages import (
    HEIGHT,
    WIDTH,
    Counting,
    assert_same_masks,
    made_package,
    photos,
    warnings_in,
)

ON_JAX = keras.backend.backend() == JAX
MORE_THAN_ANY_MACHINE_HAS = 1 << 45


def cpu():
    return jax_device.cpu() if ON_JAX else TensorFlowDevice("/device:CPU:0", jit_compile=False)


def engine_for(
    package: ModelPackage, precision: Precision = Precision.F32, batch_size: int | None = 4
) -> DeviceMaskEngine:
    return DeviceMaskEngine(package, cpu(), precision, batch_size)


class Hungry(keras.layers.Layer):
    """Takes more memory than there is for more than so many photos."""

    def __init__(self, most: int):
        super().__init__()
        self.most = most

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)

    def call(self, x):
        if x.shape[0] <= self.most:
            return x
        if ON_JAX:
            return x + 0 * ops.cumsum(ops.full((MORE_THAN_ANY_MACHINE_HAS,), x[0, 0, 0, 0]))[-1]
        import tensorflow as tf

        take = partial(np.empty, MORE_THAN_ANY_MACHINE_HAS, np.float32)
        return x + tf.ensure_shape(tf.numpy_function(lambda: take()[:1], [], tf.float32), [1])


class TestLogits:
    def test_they_are_those_of_the_network_on_normalised_photos(self):
        package, images = made_package(keras.layers.BatchNormalization), photos(3)
        expected = package.build_network()(normalise(images, package.mean, package.std))
        logits = engine_for(package).predict(images)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, ops.convert_to_numpy(expected), rtol=1e-3, atol=1e-4)

    def test_many_threads_get_the_answers_that_one_gets(self):
        batches = [photos(n, h, w) for n in (1, 2, 3) for h, w in ((32, 32), (32, 64), (64, 32))]
        one = engine_for(made_package())
        expected = [one.predict(images) for images in batches]
        engine = engine_for(made_package())
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(engine.predict, batches * 5))
        for logits, known in zip(answers, expected * 5, strict=True):
            np.testing.assert_allclose(logits, known, rtol=1e-4, atol=1e-5)

    def test_threads_share_one_program_of_a_shape(self):
        shapes = []
        engine = engine_for(made_package(partial(Counting, shapes)))
        shapes.clear()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(engine.predict, [photos(2)] * 16))
        assert shapes == [(2, HEIGHT, WIDTH, 3)]


SIZES = [(1, 1), (24, 48), (33, 65), (300, 500), (7, TILE_WIDTH + 1), (TILE_WIDTH + 7, 9)]


class TestMasks:
    def test_they_are_those_of_the_logits_at_any_sizes(self):
        engine = engine_for(made_package())
        images = photos(len(SIZES))
        masks = engine.predict_masks(images, SIZES)
        assert_same_masks(masks, engine.predict(images), SIZES, differing=2)
        assert all(made.counts.all() for made in masks[1:])

    @pytest.mark.skipif(ON_JAX, reason="JAX compiles by XLA always")
    def test_those_of_xla_are_the_same(self):
        device = TensorFlowDevice("/device:CPU:0", jit_compile=True)
        engine = DeviceMaskEngine(made_package(), device, Precision.F32, 4)
        images = photos(len(SIZES))
        masks = engine.predict_masks(images, SIZES)
        assert_same_masks(masks, engine.predict(images), SIZES, differing=2)

    def test_a_grid_of_logits_comes_with_them(self):
        engine, images = engine_for(made_package()), photos(2, 256, 512)
        masks = engine.predict_masks(images, SIZES[:2])
        for made, logits in zip(masks, engine.predict(images), strict=True):
            assert made.grid.shape == (32, 64, 3)
            np.testing.assert_allclose(made.grid, logits[::2, ::2], rtol=1e-5)

    def test_half_precision_changes_few_pixels(self):
        package, photo, size = made_package(), photos(1, 96, 128), (480, 640)
        logits = engine_for(package).predict(photo)
        for precision in (Precision.F16, Precision.BF16):
            half = engine_for(package, precision)
            assert half.precision is precision
            assert half.predict(photo).dtype == np.float32
            assert np.abs(half.predict(photo) - logits).max() > 0
            assert_same_masks(half.predict_masks(photo, [size]), logits, [size], differing=9_000)

    def test_margins_are_left_out_on_a_circle(self):
        engine, images, margin = engine_for(made_package()), photos(3, 64, 192), 32
        sizes = [(33, 65), (300, TILE_WIDTH + 5), (9, 9)]
        logits = engine.predict(images)
        columns = margin * logits.shape[2] // images.shape[2]
        for found, of_photo, size in zip(
            engine.predict_masks(images, sizes, margin), logits, sizes, strict=True
        ):
            expected, counts = logits_to_mask(of_photo, *size, columns)
            assert (found[0] != expected).sum() <= 2
            assert found[1].sum() == counts.sum() == size[0] * size[1]

    def test_photos_beyond_the_sizes_are_padding(self):
        engine, images = engine_for(made_package()), photos(4)
        alone = engine.predict_masks(images, [(50, 60)] * 4)
        for given in (1, 3):
            masks = engine.predict_masks(images, [(50, 60)] * given)
            assert len(masks) == given
            for (mask, counts, _), (expected, expected_counts, _) in zip(
                masks, alone, strict=False
            ):
                assert np.array_equal(mask, expected)
                assert np.array_equal(counts, expected_counts)

    def test_ties_go_to_the_lower_class(self):
        engine = engine_for(made_package(scale=0))
        ((mask, counts, _),) = engine.predict_masks(photos(1), [(40, 50)])
        assert not mask.any() and counts.tolist() == [2000, 0, 0]

    def test_many_classes_are_done_in_lower_tiles(self):
        logits = np.random.default_rng(0).normal(size=(2, 5, 7, 255)).astype(np.float32)
        sizes = [(130, 40), (90, 500)]
        assert tiles.tile_height(2, 255) == 128
        program = cpu().compile(tiles.fill_tile, *tiles.specs(logits.shape))
        started = tiles.start(program, ops.convert_to_tensor(logits), sizes)
        assert_same_masks(tiles.assemble(started, sizes), logits, sizes, differing=2)

    def test_many_threads_get_the_masks_that_one_gets(self):
        batches = [photos(n, h, w) for n in (1, 2) for h, w in ((32, 32), (32, 64), (64, 32))]
        engine = engine_for(made_package())
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(engine.predict_masks, batches * 3, [[(99, 98)]] * 18))
        for masks, images in zip(found, batches * 3, strict=True):
            assert_same_masks(masks, engine.predict(images)[:1], [(99, 98)], differing=1)

    def test_new_sizes_compile_nothing(self, monkeypatch):
        compiled, compile_ = [], type(cpu()).compile
        monkeypatch.setattr(
            type(cpu()),
            "compile",
            lambda self, function, *specs: (
                compiled.append(function) or compile_(self, function, *specs)
            ),
        )
        engine = engine_for(made_package())
        engine.predict_masks(photos(2), [(40, 50)] * 2)
        assert len(compiled) == 2
        for side in (1, 51, TILE_WIDTH + 1):
            engine.predict_masks(photos(2), [(side, 50), (40, side)])
        assert len(compiled) == 2
        engine.predict_masks(photos(3), [(40, 50)])
        assert len(compiled) == 4

    def test_an_engine_without_them_leaves_them_to_the_cpu(self):
        engine = DeviceEngine(made_package(), cpu(), Precision.F32)
        assert not isinstance(engine, MaskEngine)
        assert isinstance(engine_for(made_package()), MaskEngine)


class TestMemory:
    def test_batches_are_halved_until_they_fit_and_stay_so(self, caplog):
        engine, images = engine_for(made_package(lambda: Hungry(2))), photos(8)
        assert engine.batch_size == 4
        expected = engine_for(made_package()).predict(images)
        np.testing.assert_allclose(engine.predict(images), expected, rtol=1e-5, atol=1e-5)
        assert engine.batch_size == 2
        engine.predict(images)
        said = "Out of memory with a batch of 8 photos: reduced to 2"
        assert warnings_in(caplog) == [said]

    def test_the_masks_of_an_odd_batch_are_those_of_its_photos(self, caplog):
        engine, images = engine_for(made_package(lambda: Hungry(2))), photos(7)
        sizes = [(20 + n, 30 + n) for n in range(6)]
        masks = engine.predict_masks(images, sizes)
        assert_same_masks(masks, engine.predict(images), sizes, differing=1)
        assert engine.batch_size <= 2 and len(warnings_in(caplog)) == 1

    def test_one_photo_that_does_not_fit_is_an_error_of_one_line(self):
        with pytest.raises(EngineError, match="out of memory with one photo") as caught:
            engine_for(made_package(lambda: Hungry(0))).predict(photos(2))
        assert "\n" not in str(caught.value)

    def test_threads_that_run_out_of_memory_together_say_so_once(self, caplog):
        engine, images = engine_for(made_package(lambda: Hungry(2))), photos(8)
        expected = engine_for(made_package()).predict(images)
        with ThreadPoolExecutor(4) as pool:
            for logits in pool.map(engine.predict, [images] * 8):
                np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
        assert engine.batch_size == 2
        assert len(warnings_in(caplog)) == 1


class TestOverflow:
    """A network whose logits half precision cannot hold."""

    def test_photos_that_overflow_are_done_again_in_single_precision(self, caplog):
        images = photos(3)
        images[1] = 128, 102, 76  # All but the mean: nothing to overflow.
        package = made_package(scale=1e4)
        expected = engine_for(package).predict(images)
        largest = np.abs(expected).max(axis=(1, 2, 3))
        assert (largest > np.finfo(np.float16).max).tolist() == [True, False, True]
        reads = []
        package = replace(package, build=lambda build=package.build: reads.append(1) or build())
        engine = engine_for(package, Precision.F16)
        for _ in range(2):
            np.testing.assert_allclose(engine.predict(images), expected, rtol=1e-2, atol=50)
            masks = engine.predict_masks(images, [(64, 128)] * 3)
            assert_same_masks(masks, expected, [(64, 128)] * 3, differing=40)
        assert len(reads) == 1  # The package's files may be gone by now.
        assert warnings_in(caplog) == [
            "The network overflows in mixed_float16: such photos are computed again in float32"
        ]

    def test_others_stay_in_half_precision(self):
        package, quiet = made_package(scale=1e4), 128 + photos(1, 64, 64) // 64
        expected = engine_for(package, Precision.F16).predict(quiet)
        assert not np.allclose(expected, engine_for(package).predict(quiet), rtol=1e-5)
        engine = engine_for(package, Precision.F16)
        engine.predict(photos(3))
        assert np.array_equal(engine.predict(quiet), expected)

    @pytest.mark.parametrize("precision", [Precision.F32, Precision.F16])
    def test_a_photo_that_single_precision_cannot_hold_either_has_no_mask(self, precision):
        class Dividing(keras.layers.Layer):
            def call(self, x):
                return x / ops.max(x, axis=(1, 2, 3), keepdims=True)

        images = photos(3)
        images[1] = 0
        package = replace(made_package(Dividing), mean=(0.0, 0.0, 0.0))
        engine = engine_for(package, precision)
        first, second, third = engine.predict_masks(images, [(9, 9)] * 3)
        assert second is None
        assert first[1].sum() == third[1].sum() == 81
        assert np.isfinite(engine.predict(images)).all(axis=(1, 2, 3)).tolist() == [
            True, False, True,
        ]  # fmt: skip


class TestBatchSize:
    @pytest.mark.parametrize(
        ("bytes_per_photo", "memory", "size"),
        [(100, 99, 1), (100, 100, 1), (100, 399, 2), (100, 400, 4), (1, 10**9, MOST_ON_GPU)],
    )
    def test_as_many_photos_as_fit_into_memory(self, bytes_per_photo, memory, size):
        assert fitting(bytes_per_photo, memory) == size

    def test_a_larger_input_gets_smaller_batches(self):
        def chosen(side):
            package = replace(made_package(), input_height=side, input_width=side)
            return engine_for(package, batch_size=None).batch_size

        assert cpu().memory == 256 << 20  # Whatever the machine has.
        assert [chosen(side) for side in (32, 1024, 2048)] == [16, 4, 1]


class TestWarmUp:
    def test_the_first_batch_finds_everything_compiled(self, caplog):
        caplog.set_level(logging.INFO)
        shapes = []
        engine = engine_for(made_package(partial(Counting, shapes)))
        engine.warm_up()
        assert shapes[-1] == (4, HEIGHT, WIDTH, 3)
        traced = len(shapes)
        engine.predict_masks(photos(4), [(100, 200)] * 4)
        assert len(shapes) == traced
        said = [record.getMessage() for record in caplog.records if "models." in record.name]
        assert "float32, batches of 4 photos, ready after" in said[-1]

    def test_it_finds_the_batch_that_fits(self, caplog):
        engine = engine_for(made_package(lambda: Hungry(1)))
        engine.warm_up()
        assert engine.batch_size == 1 and len(warnings_in(caplog)) == 1
