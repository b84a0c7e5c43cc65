"""Segmenting: from a work unit to masks and rows, with engines whose answers are known."""

import gc
import json
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import apache_beam as beam
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from PIL import ExifTags, Image

from models.classes import ClassTable
from models.engines import DeviceMask, EngineOptions, Precision
from models.inputs import InputSize
from models.packages import ModelPackage, load_package
from models.segmenter import Segmenter
from models.upsampling import logits_to_mask
from tests.memory_store import MemoryStore, registered
from tests.shard_files import write_tar
from tests.waiting import until
from transforms import SegmentArchive, SegmentOptions
from transforms.flow.records import Capture, ImageRef, Projection, Segmented, UnitResult, WorkUnit
from transforms.inputs.listing import list_input, list_members
from transforms.photos.decoding import Photo
from transforms.planning.deciding import plan_new
from transforms.segmenting.stream import UnitStream, segment_unit
from transforms.segmenting.unit import SPARE_THREADS, UnitSegmenter
from transforms.storage import StorageError

CLASSES = ClassTable.of(
    [("Dark", (10, 20, 30)), ("Grey", (120, 130, 140)), ("Bright", (250, 240, 230))]
)
LEVELS = np.array([0, 128, 255], np.float32)
STRIDE = 8


class BrightnessEngine:
    """Takes each cell of 8 x 8 pixels for the class whose grey level is nearest."""

    def __init__(self, batch_size=4):
        self.batch_size = batch_size
        self.streams = 1
        self.precision = Precision.F32
        self.shapes = []

    def predict(self, images: np.ndarray) -> np.ndarray:
        self.shapes.append(images.shape)
        n, h, w, _ = images.shape
        cells = images.reshape(n, h // STRIDE, STRIDE, w // STRIDE, STRIDE, 3).mean((2, 4, 5))
        return -np.abs(cells[..., None] - LEVELS).astype(np.float32)


class EngineWithoutAnswerToBlack(BrightnessEngine):
    """Its logits are not numbers where a photo is all black."""

    def predict(self, images):
        logits = super().predict(images)
        logits[images.max((1, 2, 3)) == 0, 0, 0, 0] = np.nan
        return logits


class EngineThatBreaksOnWhite(BrightnessEngine):
    """Raises where any photo of the batch is all white."""

    def predict(self, images):
        if (images.min((1, 2, 3)) == 255).any():
            raise RuntimeError("cannot look at white")
        return super().predict(images)


class EngineThatAnswersShort(BrightnessEngine):
    """Forgets the last photo of each batch."""

    def predict(self, images):
        return super().predict(images)[:1]


class EngineThatCountsPhotos(BrightnessEngine):
    """Waits until the threads have done what they may, then counts the photos in memory."""

    def __init__(self, batch_size):
        super().__init__(batch_size)
        self.photos = []
        gc.collect()
        self._of_other_tests = photos_in_memory()

    def predict(self, images):
        time.sleep(0.05)
        self.photos.append(photos_in_memory() - self._of_other_tests)
        return super().predict(images)


def photos_in_memory() -> int:
    return sum(type(entry) is Photo for entry in gc.get_objects())  # Proxies may be dead.


class EngineThatMakesMasks(BrightnessEngine):
    """Makes the masks itself, as one on a GPU does; those of black photos are not finite."""

    def predict_masks(self, images, sizes, margin=0):
        logits = super().predict(images)
        columns = margin * logits.shape[2] // images.shape[2]
        return [
            None
            if image.max() == 0
            else DeviceMask(*logits_to_mask(of_image, *size, columns), of_image)
            for image, of_image, size in zip(images, logits, sizes, strict=False)
        ]

    def predict(self, images):
        raise AssertionError("the masks are asked for")


@pytest.fixture
def package(tmp_path) -> ModelPackage:
    return ModelPackage(
        path=tmp_path / "package",
        name="bright",
        architecture="none",
        width=1.0,
        input_height=64,
        input_width=96,
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        classes=CLASSES,
        training={},
        metrics={},
        fingerprint="0123456789abcdef",
    )


@pytest.fixture
def archive(tmp_path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out"


def plain(path: Path, level: int, size=(96, 64), **save) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level,) * 3).save(path, **save)
    return path


def unit_of(*inputs: Path) -> WorkUnit:
    return WorkUnit("unit", tuple(plan_new(ref) for ref in refs_in(*inputs)))


def refs_in(*inputs: Path) -> list[ImageRef]:
    return [
        ref for path in inputs for entry in list_input(str(path)) for ref in list_members(entry)
    ]


def segmenter_of(package: ModelPackage, engine, options: SegmentOptions) -> UnitSegmenter:
    segmenter = Segmenter(
        engine, CLASSES, InputSize(96, 64), confidence="confidence" in options.outputs
    )
    return UnitSegmenter(package, segmenter, options)


@pytest.fixture
def segment(package, output):
    """A function that segments one unit and gives its result."""

    def run(
        unit: WorkUnit, engine=None, measure=lambda name, value: None, threads=2, **options
    ) -> UnitResult:
        options = SegmentOptions(
            str(output), "run1", engine=EngineOptions(threads=threads), **options
        )
        opened = segmenter_of(package, engine or BrightnessEngine(), options)
        return segment_unit(opened, unit, measure)

    return run


def names(items) -> list[str]:
    return [item.planned.ref.image for item in items]


def read_mask(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.asarray(image)


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class TestPanoramas:
    @pytest.fixture
    def photos(self, archive) -> Path:
        """Panoramas that are darkest in their middle, among flat photos of the same shape."""
        around = np.abs(np.linspace(-255, 255, 240, endpoint=False))
        for number in range(3):
            turned = np.roll(around, 70 * number).astype(np.uint8)
            pixels = np.broadcast_to(turned[None, :, None], (120, 240, 3))
            Image.fromarray(np.ascontiguousarray(pixels)).save(archive / f"{number}.png")
            plain(archive / f"square{number}.png", 120, size=(100, 100))
        return archive

    @pytest.mark.parametrize(
        "engine", [BrightnessEngine(4), EngineThatMakesMasks(4), EngineThatMakesMasks(2)]
    )
    def test_are_the_same_alone_and_in_batches_of_every_engine(
        self, photos, segment, output, engine
    ):
        around = {"projection": Projection.EQUIRECTANGULAR}
        alone = segment(unit_of(photos), BrightnessEngine(1), threads=1, **around)
        expected = files_below(output)
        assert segment(unit_of(photos), engine, **around).segmented == alone.segmented
        assert files_below(output) == expected
        on_sphere = {item.planned.ref.image: item.on_sphere is not None for item in alone.segmented}
        assert on_sphere == {f"{n}.png": True for n in range(3)} | {
            f"square{n}.png": False for n in range(3)
        }

    def test_a_turned_one_has_the_turned_mask(self, photos, segment, output):
        segment(unit_of(photos), projection=Projection.EQUIRECTANGULAR)
        first, second, _ = (read_mask(output / "masks" / f"{n}.png.png") for n in range(3))
        assert (np.roll(first, 70, axis=1) == second).mean() > 0.97
        assert len(np.unique(first)) == 3

    def test_confidences_are_those_of_the_mask(self, photos, segment):
        result = segment(
            unit_of(photos), projection=Projection.EQUIRECTANGULAR, outputs=("confidence",)
        )
        assert all(item.values["confidence"] for item in result.segmented)


class TestMasksAndCounts:
    def test_each_image_gets_the_class_of_its_pixels(self, archive, segment, output):
        for name, level in (("dark.png", 5), ("grey.png", 120), ("bright.jpg", 250)):
            plain(archive / name, level, size=(200, 100))
        result = segment(unit_of(archive))
        assert {item.planned.ref.image: item.pixels for item in result.segmented} == {
            "dark.png": (20_000, 0, 0),
            "grey.png": (0, 20_000, 0),
            "bright.jpg": (0, 0, 20_000),
        }
        assert (read_mask(output / "masks" / "bright.jpg.png") == 2).all()

    @pytest.mark.parametrize("engine", [BrightnessEngine(1), EngineThatMakesMasks(4)])
    def test_each_row_has_the_precision_of_the_engine(self, archive, segment, output, engine):
        plain(archive / "a.png", 5)
        engine.precision = Precision.INT8
        segment(unit_of(archive), engine)
        assert pq.read_table(output / "statistics")["precision"].to_pylist() == ["int8"]

    def test_counts_add_up_and_are_those_of_the_mask(self, archive, segment, output):
        ramp = np.tile(np.linspace(0, 255, 333).astype(np.uint8)[:, None, None], (1, 77, 3))
        Image.fromarray(ramp).save(archive / "ramp.png")
        (item,) = segment(unit_of(archive)).segmented
        mask = read_mask(output / item.planned.mask)
        assert (item.width, item.height) == (77, 333)
        assert mask.shape == (333, 77)
        assert item.pixels == tuple(np.bincount(mask.ravel(), minlength=3))
        assert sum(item.pixels) == 77 * 333
        assert (np.diff(mask.astype(int), axis=0) >= 0).all(), "dark above grey above bright"

    def test_opencv_sees_the_colours_of_the_classes(self, archive, segment, output):
        plain(archive / "grey.png", 120)
        segment(unit_of(archive))
        seen = cv2.imread(str(output / "masks" / "grey.png.png"))
        assert (seen[..., ::-1] == CLASSES.classes[1].color).all()

    def test_a_mask_has_the_displayed_size_and_lies_as_the_photo_is_displayed(
        self, archive, segment, output
    ):
        stored = np.zeros((64, 96, 3), np.uint8)
        stored[:, :48] = 255  # Bright on the left; turned clockwise, bright on top.
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        Image.fromarray(stored).save(archive / "turned.png", exif=exif)
        (item,) = segment(unit_of(archive)).segmented
        mask = read_mask(output / item.planned.mask)
        assert (item.width, item.height) == (64, 96)
        assert (mask[:40] == 2).all() and (mask[56:] == 0).all()

    def test_results_stand_in_the_order_of_the_unit(self, archive, segment):
        sizes = [(96, 64), (64, 96), (64, 64)]
        for number in range(20):
            plain(archive / f"{number:02}.png", number * 12, size=sizes[number % 3])
        unit = unit_of(archive)
        assert names(segment(unit).segmented) == [image.ref.image for image in unit.images]

    def test_the_rows_are_committed(self, archive, segment, output, package):
        plain(archive / "dark.png", 5)
        segment(unit_of(archive))
        (row,) = pq.read_table(output / "statistics" / "unit.parquet").to_pylist()
        assert (row["image"], row["model"], row["run_id"]) == ("dark.png", package.model_id, "run1")
        assert (row["pixels_dark"], row["pixels_grey"], row["pixels_bright"]) == (96 * 64, 0, 0)

    def test_the_same_unit_twice_gives_the_same_bytes(self, archive, segment, output, make_photo):
        for number in range(6):
            make_photo(archive / f"{number}.jpg", seed=number)
        (archive / "broken.jpg").write_bytes(b"")
        unit = unit_of(archive)
        segment(unit, outputs=("overlay",))
        before = files_below(output)
        segment(unit, BrightnessEngine(batch_size=3), outputs=("overlay",))
        assert files_below(output) == before
        segment(unit, BrightnessEngine(batch_size=1), outputs=("overlay",), threads=1)
        assert files_below(output) == before
        assert len(before) == 14


class TestBatches:
    @pytest.mark.parametrize(
        ("images", "sizes"), [(4, [4]), (5, [4, 1]), (6, [4, 2]), (7, [4, 4]), (8, [4, 4])]
    )
    def test_the_last_one_is_padded_to_a_power_of_two(self, archive, segment, images, sizes):
        for number in range(images):
            plain(archive / f"{number}.png", 100)
        engine = BrightnessEngine()
        segment(unit_of(archive), engine)
        assert engine.shapes == [(size, 64, 96, 3) for size in sizes]

    def test_of_one_are_done_side_by_side_in_threads_that_were_asked_for_and_some_to_spare(
        self, archive, segment
    ):
        seen = set()

        class Engine(BrightnessEngine):
            def predict(self, images):
                seen.add(threading.get_ident())
                time.sleep(0.01)
                return super().predict(images)

        for number in range(12):
            plain(archive / f"{number}.png", 100)
        engine = Engine(batch_size=1)
        engine.streams = 3
        segment(unit_of(archive), engine, threads=3)
        assert len(seen) == 3 + SPARE_THREADS

    def test_hold_images_of_one_network_shape(self, archive, segment):
        for number in range(3):
            plain(archive / f"wide{number}.png", 100, size=(96, 64))
            plain(archive / f"tall{number}.png", 100, size=(64, 96))
        engine = BrightnessEngine()
        assert len(segment(unit_of(archive), engine).segmented) == 6
        assert len(engine.shapes) == len(set(engine.shapes)) == 2

    def test_few_shapes_serve_photos_of_any_size(self, archive, segment):
        choose = np.random.default_rng(0)
        for number in range(40):
            plain(archive / f"{number}.png", 100, size=tuple(choose.integers(20, 200, 2)))
        engine = BrightnessEngine()
        segment(unit_of(archive), engine)
        assert len(set(engine.shapes)) <= 7

    def test_at_most_two_batches_are_decoded_ahead(self, archive, segment):
        for number in range(16):
            plain(archive / f"{number:02}.png", 100)
        engine = EngineThatCountsPhotos(batch_size=2)
        segment(unit_of(archive), engine)
        in_batch, ahead = 2, 2 * 2
        assert in_batch < max(engine.photos) <= in_batch + ahead

    def test_failed_images_do_not_stay_in_memory(self, archive, segment):
        class Engine(EngineThatCountsPhotos):
            def predict(self, images):
                return np.full_like(super().predict(images), np.nan)

        for number in range(16):
            plain(archive / f"{number:02}.png", 100)
        engine = Engine(batch_size=2)
        assert len(segment(unit_of(archive), engine).failures) == 16
        assert max(engine.photos) <= 2 + 2 * 2


class TestStream:
    """Units follow each other without a pause, and each is committed once its images have ended."""

    @pytest.fixture
    def units(self, archive) -> list[WorkUnit]:
        for number in range(30):
            plain(archive / f"{number:02}.png", 8 * number)
        images = unit_of(archive).images
        return [WorkUnit(f"unit{n}", images[10 * n : 10 * n + 10]) for n in range(3)]

    @pytest.fixture
    def stream(self, package, output):
        """A function that opens a stream through an engine with batches of a size."""

        def open_stream(batch_size: int, engine=BrightnessEngine) -> UnitStream:
            options = SegmentOptions(str(output), "run1", engine=EngineOptions(threads=1))
            segmenter = segmenter_of(package, engine(batch_size), options)
            return UnitStream(segmenter, lambda name, value: None)

        return open_stream

    @pytest.mark.parametrize("batch_size", [1, 4, 64])
    def test_every_unit_ends_with_its_own_images_whatever_the_batches(
        self, stream, units, output, batch_size
    ):
        opened = stream(batch_size)
        results = [result for unit in units for result in opened.add(unit)]
        results += opened.finish()
        assert [result.unit_id for result in results] == ["unit0", "unit1", "unit2"]
        for unit, result in zip(units, results, strict=True):
            assert tuple(item.planned for item in result.segmented) == unit.images
            table = pq.read_table(output / "statistics" / f"{unit.unit_id}.parquet")
            assert table["image"].to_pylist() == [image.ref.image for image in unit.images]

    def test_the_next_unit_begins_before_the_last_one_has_ended(self, stream, units):
        opened = stream(1)
        assert list(opened.add(units[0])) == []
        assert len(list(opened.finish())) == 1

    def test_an_image_whose_shape_is_rare_does_not_keep_its_unit_waiting(self, archive, stream):
        plain(archive / "000.png", 100, size=(64, 96))
        for number in range(1, 120):
            plain(archive / f"{number:03}.png", 100)
        images = unit_of(archive).images
        opened = stream(4)
        ended = [
            result.unit_id
            for n in range(3)
            for result in opened.add(WorkUnit(f"unit{n}", images[40 * n : 40 * n + 40]))
        ]
        assert opened.open_units < 3  # The first one is committed, or about to be.
        ended += [result.unit_id for result in opened.finish()]
        assert ended == ["unit0", "unit1", "unit2"]

    def test_the_next_unit_goes_on_while_the_last_one_is_flushed(self, package, units):
        masks_at_flush = []

        class SlowDisk(MemoryStore):
            def flush(self, root: str) -> None:
                until(lambda: len(self.masks()) > len(units[0].images))
                masks_at_flush.append(len(self.masks()))

            def masks(self) -> list[str]:
                return [path for path in list(self.stored) if "/masks/" in path]

        options = SegmentOptions("memory://out", "run1")
        with registered("memory", SlowDisk()) as disk:
            opened = UnitStream(
                segmenter_of(package, BrightnessEngine(1), options), lambda name, value: None
            )
            results = [result for unit in units[:2] for result in opened.add(unit)]
            results += opened.finish()
        assert [result.unit_id for result in results] == ["unit0", "unit1"]
        assert masks_at_flush[1] == len(disk.masks()) == 20

    def test_without_durability_nothing_is_flushed(self, package, units):
        class Broken(MemoryStore):
            def flush(self, root: str) -> None:
                raise StorageError("no room")

        with registered("memory", Broken()) as disk:
            for durable in (False, True):
                options = SegmentOptions("memory://out", "run1", durable=durable)
                segmenter = segmenter_of(package, BrightnessEngine(1), options)
                with nullcontext() if not durable else pytest.raises(StorageError, match="no room"):
                    segment_unit(segmenter, units[durable], lambda name, value: None)
                rows = [path for path in disk.stored if "/statistics/" in path]
                assert rows == ["memory://out/statistics/unit0.parquet"]

    def test_batches_mix_the_images_of_two_units(self, package, output, units):
        engine = BrightnessEngine(batch_size=4)
        segmenter = segmenter_of(package, engine, SegmentOptions(str(output), "run1"))
        opened = UnitStream(segmenter, lambda name, value: None)
        for unit in units:
            list(opened.add(unit))
        list(opened.finish())
        assert [shape[0] for shape in engine.shapes] == [4, 4, 4, 4, 4, 4, 4, 2]

    def test_rows_that_cannot_be_written_are_an_error_and_not_a_result(self, stream, units, output):
        output.mkdir()
        (output / "statistics").write_text("a file in its place")
        opened = stream(1)
        with pytest.raises(StorageError):
            list(opened.add(units[0])) + list(opened.finish())


class TestEngineThatMakesMasks:
    def test_its_masks_and_counts_are_those_of_the_logits(self, archive, segment, output):
        for number in range(6):
            plain(archive / f"{number}.png", 40 * number + 10, size=(96 + number, 64))
        result = segment(unit_of(archive))
        expected = [item.pixels for item in result.segmented], files_below(output / "masks")
        result = segment(unit_of(archive), EngineThatMakesMasks())
        assert (
            [item.pixels for item in result.segmented],
            files_below(output / "masks"),
        ) == expected

    def test_an_image_without_a_finite_answer_fails_alone(self, archive, segment):
        plain(archive / "black.png", 0)
        plain(archive / "grey.png", 128)
        result = segment(unit_of(archive), EngineThatMakesMasks())
        assert [item.planned.ref.image for item in result.segmented] == ["grey.png"]
        assert [(f.planned.ref.image, f.stage) for f in result.failures] == [("black.png", "infer")]

    def test_confidence_takes_the_logits(self, archive, segment):
        class Engine(EngineThatMakesMasks):
            predict = BrightnessEngine.predict
            predict_masks = None

        plain(archive / "grey.png", 128)
        (item,) = segment(unit_of(archive), Engine(), outputs=("confidence",)).segmented
        assert item.values["confidence"] is not None


class TestFailures:
    def test_an_image_that_fails_costs_only_itself(self, archive, segment, output):
        for number in range(5):
            plain(archive / f"{number}.jpg", 100)
        whole = (archive / "4.jpg").read_bytes()
        (archive / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
        (archive / "text.jpg").write_bytes(b"this is no photo")
        unit = unit_of(archive)
        (archive / "2.jpg").unlink()
        result = segment(unit)
        assert names(result.segmented) == ["0.jpg", "1.jpg", "3.jpg", "4.jpg"]
        assert [(f.planned.ref.image, f.stage) for f in result.failures] == [
            ("2.jpg", "read"),
            ("text.jpg", "decode"),
            ("truncated.jpg", "decode"),
        ]
        assert all(failure.message and failure.error for failure in result.failures)
        failed = pq.read_table(output / "failures" / "unit.parquet")["image"].to_pylist()
        assert failed == ["2.jpg", "text.jpg", "truncated.jpg"]
        assert len(list((output / "masks").iterdir())) == 4

    def test_logits_that_are_not_finite_give_a_failure_and_no_mask(self, archive, segment, output):
        for name, level in (("0.png", 0), ("1.png", 100), ("2.png", 200)):
            plain(archive / name, level)
        result = segment(unit_of(archive), EngineWithoutAnswerToBlack())
        assert names(result.segmented) == ["1.png", "2.png"]
        (failure,) = result.failures
        assert (failure.planned.ref.image, failure.stage) == ("0.png", "infer")
        assert "NaN" in failure.message
        assert not (output / "masks" / "0.png.png").exists()

    def test_an_image_the_network_breaks_on_does_not_cost_its_batch(self, archive, segment):
        for name, level in (("0.png", 0), ("1.png", 255), ("2.png", 200), ("3.png", 128)):
            plain(archive / name, level)
        result = segment(unit_of(archive), EngineThatBreaksOnWhite())
        assert names(result.segmented) == ["0.png", "2.png", "3.png"]
        (failure,) = result.failures
        assert (failure.planned.ref.image, failure.stage) == ("1.png", "infer")
        assert (failure.error, failure.message) == ("RuntimeError", "cannot look at white")

    def test_an_engine_that_answers_short_loses_no_image(self, archive, segment):
        for number in range(4):
            plain(archive / f"{number}.png", 100)
        assert len(segment(unit_of(archive), EngineThatAnswersShort()).segmented) == 4

    def test_a_mask_that_cannot_be_written_is_a_failure_of_its_image(
        self, archive, segment, output
    ):
        plain(archive / "lund" / "a.png", 100)
        plain(archive / "malmo" / "b.png", 100)
        (output / "masks").mkdir(parents=True)
        (output / "masks" / "lund").write_text("a file where a folder should be")
        result = segment(unit_of(archive))
        assert names(result.segmented) == ["malmo/b.png"]
        (failure,) = result.failures
        assert (failure.planned.ref.image, failure.stage) == ("lund/a.png", "write")
        assert "cannot be written" in failure.message

    def test_an_image_that_changes_after_it_was_listed_has_no_row_that_names_the_old_one(
        self, archive, segment
    ):
        plain(archive / "a.png", 0)
        plain(archive / "b.png", 0)
        unit = unit_of(archive)
        plain(archive / "a.png", 255, size=(48, 32))
        result = segment(unit)
        assert names(result.segmented) == ["b.png"]
        (failure,) = result.failures
        assert (failure.planned.ref.image, failure.stage) == ("a.png", "read")
        assert "changed since it was listed" in failure.message

    def test_a_damaged_member_fails_with_its_byte_offset(self, archive, segment, tmp_path):
        good = plain(tmp_path / "good.png", 100).read_bytes()
        write_tar(archive / "city.tar", [("a.png", good), ("b.png", good)])
        data = (archive / "city.tar").read_bytes()
        start = 512 + -(-len(good) // 512) * 512 + 512
        (archive / "city.tar").write_bytes(data[: start + 10])
        result = segment(unit_of(archive))
        assert names(result.segmented) == ["city.tar/a.png"]
        (failure,) = result.failures
        assert (failure.planned.ref.image, failure.stage) == ("city.tar/b.png", "read")
        assert f"byte {start}" in failure.message

    def test_attempts_count_on_from_earlier_runs(self, archive, segment, output):
        (archive / "empty.jpg").write_bytes(b"")
        (planned,) = unit_of(archive).images
        segment(WorkUnit("unit", (replace(planned, attempts=2),)))
        (row,) = pq.read_table(output / "failures" / "unit.parquet").to_pylist()
        assert row["attempts"] == 3


class TestCommitOrder:
    def test_rows_appear_after_all_masks(self, archive, segment, output):
        for number in range(6):
            plain(archive / f"{number}.png", 100)
        rows_file = output / "statistics" / "unit.parquet"
        seen = []

        def measure(name, value):
            if name in ("done", "commit_microseconds"):
                seen.append((name, rows_file.exists()))

        segment(unit_of(archive), measure=measure)
        assert seen == [("done", False)] * 6 + [("commit_microseconds", True)]
        newest = max(mask.stat().st_mtime_ns for mask in (output / "masks").iterdir())
        assert newest <= rows_file.stat().st_mtime_ns

    def test_rows_that_cannot_be_written_end_the_unit_with_its_masks_in_place(
        self, archive, segment, output
    ):
        plain(archive / "a.png", 100)
        output.mkdir()
        (output / "statistics").write_text("a file where a folder should be")
        with pytest.raises(StorageError, match="cannot be written"):
            segment(unit_of(archive))
        assert (output / "masks" / "a.png.png").exists()


class TestOverlay:
    def test_is_the_photo_blended_with_the_colours_of_its_mask(self, archive, segment, output):
        plain(archive / "grey.png", 120, size=(100, 50))
        segment(unit_of(archive), outputs=("overlay",))
        with Image.open(output / "masks" / "grey.png.overlay.jpg") as image:
            assert (image.format, image.size) == ("JPEG", (100, 50))
            blended = (np.array(CLASSES.classes[1].color) + 120) / 2
            np.testing.assert_allclose(np.asarray(image).mean((0, 1)), blended, atol=2)

    def test_is_not_written_unless_asked_for(self, archive, segment, output):
        plain(archive / "grey.png", 120)
        segment(unit_of(archive))
        assert list(output.rglob("*.jpg")) == []


class TestCapture:
    @pytest.fixture
    def located(self, archive) -> Path:
        """A photo whose EXIF has position, time and heading."""
        exif = Image.Exif()
        gps = {
            ExifTags.GPS.GPSLatitudeRef: "N",
            ExifTags.GPS.GPSLatitude: (55.0, 30.0, 0.0),
            ExifTags.GPS.GPSLongitudeRef: "W",
            ExifTags.GPS.GPSLongitude: (13.0, 15.0, 0.0),
            ExifTags.GPS.GPSImgDirection: 45.0,
        }
        exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps)
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2024:07:09 03:25:24"
        return plain(archive / "a.jpg", 100, exif=exif)

    def test_of_exif_stands_in_the_row(self, archive, located, segment):
        (item,) = segment(unit_of(archive)).segmented
        time = datetime(2024, 7, 9, 3, 25, 24)
        assert item.capture == Capture(55.5, -13.25, time, 45.0)

    def test_of_a_manifest_goes_before_exif(self, archive, located, segment):
        (archive / "list.csv").write_text("uri,latitude,longitude,heading\na.jpg,1.5,2.5,\n")
        (item,) = segment(unit_of(archive / "list.csv")).segmented
        time = datetime(2024, 7, 9, 3, 25, 24)
        assert item.capture == Capture(1.5, 2.5, time, 45.0)

    def test_half_a_position_is_none(self, archive, located, segment):
        (archive / "list.csv").write_text("uri,latitude\na.jpg,1.5\n")
        (item,) = segment(unit_of(archive / "list.csv")).segmented
        assert (item.capture.latitude, item.capture.longitude) == (55.5, -13.25)


class TestSegmentArchive:
    def test_segments_with_a_real_network_and_measures_each_stage(
        self, archive, output, tiny_model, make_photo
    ):
        for number in range(5):
            make_photo(archive / f"{number}.jpg", seed=number)
        (archive / "broken.jpg").write_bytes(b"broken")
        options = SegmentOptions(str(output), "run1", engine=EngineOptions(batch_size=2))
        pipeline = beam.Pipeline(runner=FnApiRunner())
        results = (
            pipeline
            | beam.Create(refs_in(archive))
            | SegmentArchive(load_package(tiny_model), options, unit_size=4)
        )
        outcomes = results | beam.FlatMap(
            lambda result: (
                [(item.planned.ref.image, sum(item.pixels)) for item in result.segmented]
                + [(item.planned.ref.image, item.stage) for item in result.failures]
            )
        )
        done = [(f"{number}.jpg", 96 * 64) for number in range(5)]
        assert_that(outcomes, equal_to([*done, ("broken.jpg", "decode")]))
        result = pipeline.run()
        result.wait_until_finish()
        metrics = result.metrics().query()
        counters = {
            m.key.metric.name: m.result
            for m in metrics["counters"]
            if m.key.metric.namespace == "citymask.segmenting"
        }
        masks = sum(len(data) for name, data in files_below(output).items() if "masks" in name)
        photos = sum(path.stat().st_size for path in archive.iterdir())
        assert counters == {"done": 5, "failed": 1, "bytes_in": photos, "bytes_out": masks}
        counts = {m.key.metric.name: m.result.count for m in metrics["distributions"]}
        assert counts["commit_microseconds"] == 2
        assert counts["read_microseconds"] == 6
        assert counts["decode_microseconds"] == counts["write_microseconds"] == 5
        assert counts["infer_microseconds"] == counts["batch_size"]

    def test_without_images_loads_no_model(self, package, output):
        options = SegmentOptions(str(output), "run1")
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            refs = pipeline | beam.Create([], reshuffle=False).with_output_types(ImageRef)
            assert_that(refs | SegmentArchive(package, options), equal_to([]))


def test_metadata_beside_a_shard_member_stands_in_its_row(archive, segment, output, tmp_path):
    photo = plain(tmp_path / "photo.png", 100).read_bytes()
    metadata = json.dumps({"latitude": 1.5, "longitude": 2.5, "lens": 35}).encode()
    write_tar(archive / "city.tar", [("a.png", photo), ("a.json", metadata)])
    (item,) = segment(unit_of(archive)).segmented
    assert isinstance(item, Segmented)
    (row,) = pq.read_table(output / "statistics" / "unit.parquet").to_pylist()
    assert (row["latitude"], row["longitude"], row["lens"]) == (1.5, 2.5, 35)
    assert row["mask"] == "masks/city.tar/a.png.png"
