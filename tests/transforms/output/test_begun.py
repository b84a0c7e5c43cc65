"""Records of what is begun, and what becomes of those that killed processes have left."""

import logging
import os

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from models.engines import Precision
from transforms import SettleLeftOver
from transforms.flow.records import Failure, ImageRef, Segmented, UnitResult
from transforms.output import begun
from transforms.output.begun import Begun, BegunImage, LeftOver, Settling
from transforms.planning.deciding import plan_new

MODEL = "tiny@0123456789ab"
IMAGES = tuple(BegunImage(name, f"/a/{name}", "10-1", "") for name in ("a.jpg", "b.jpg"))


def ref(image: str) -> ImageRef:
    return ImageRef(image, f"/a/{image}", f"/a/{image}", "10-1", ".")


@pytest.fixture
def output(tmp_path):
    """An output folder with one record, `unit`, of two images."""
    begun.write(str(tmp_path), "unit", Begun("run1", MODEL, IMAGES))
    return str(tmp_path)


def names_in(output: str) -> list[str]:
    return [left.image for left in begun.left_over(output, MODEL)]


class TestRecords:
    def test_of_the_model_are_found_with_their_images(self, output):
        begun.write(output, "other", Begun("run1", "other@0123456789ab", IMAGES))
        assert list(begun.left_over(output, MODEL)) == [LeftOver("unit", i) for i in IMAGES]

    def test_of_one_image_that_was_alone_say_so(self, output):
        begun.write(output, "unit", Begun("run1", MODEL, IMAGES[:1], tries=1))
        assert list(begun.left_over(output, MODEL)) == [LeftOver("unit", IMAGES[0], True)]

    def test_are_there_none_before_anything_began(self, tmp_path):
        assert list(begun.left_over(str(tmp_path), MODEL)) == []
        assert begun.read(str(tmp_path), "unit") is None

    def test_can_be_removed_twice(self, output):
        begun.remove(output, "unit")
        begun.remove(output, "unit")
        assert names_in(output) == []

    @pytest.mark.parametrize(
        "content", [b"", b"{}", b"[]", b"\xff", b'{"run_id": "r", "images": [1]}']
    )
    def test_that_are_damaged_are_ignored_with_a_warning_and_removed(self, output, content, caplog):
        path = f"{output}/{begun.BEGUN}/unit.json"
        with open(path, "wb") as file:
            file.write(content)
        with caplog.at_level(logging.WARNING):
            (left,) = begun.left_over(output, MODEL)
        assert "unit.json: not a record of begun work" in caplog.text
        begun.settle(output, left.name, {left.image})
        assert not os.path.exists(path)


class TestSettling:
    def settle(self, output, settling, results=()):
        with beam.Pipeline(FnApiRunner()) as pipeline:
            inputs = {
                "settling": pipeline | "Settling" >> beam.Create(settling),
                "results": pipeline | "Results" >> beam.Create(results),
            }
            _ = inputs | SettleLeftOver(output)

    def test_takes_off_what_is_settled_and_what_ended(self, output):
        failed = Failure(plan_new(ref("b.jpg")), "decode", "DecodeError", "no photo")
        self.settle(
            output,
            [Settling("unit", "a.jpg", now=True), Settling("unit", "b.jpg")],
            [UnitResult("u", (), (failed,))],
        )
        assert names_in(output) == []
        assert os.listdir(f"{output}/{begun.BEGUN}") == []

    def test_keeps_what_was_left(self, output):
        done = Segmented(plan_new(ref("a.jpg")), 4, 3, ref("a.jpg").capture, (12,), Precision.F32)
        self.settle(
            output,
            [Settling("unit", "a.jpg"), Settling("unit", "b.jpg")],
            [UnitResult("u", (done,), (), left=(plan_new(ref("b.jpg")),))],
        )
        assert names_in(output) == ["b.jpg"]

    def test_keeps_what_failed_while_its_mask_may_be_newer_than_its_row(self, output):
        failed = Failure(plan_new(ref("a.jpg")), "decode", "DecodeError", "no photo")
        self.settle(
            output, [Settling("unit", "a.jpg", once_done=True)], [UnitResult("u", (), (failed,))]
        )
        assert names_in(output) == ["a.jpg", "b.jpg"]
