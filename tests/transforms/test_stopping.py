"""A run is asked to stop by a file below its output folder."""

from transforms import stopping
from transforms.records import ImageRef, WorkUnit
from transforms.segmenting import SegmentOptions, SegmentUnit


def test_a_request_holds_until_it_is_withdrawn(tmp_path):
    output = str(tmp_path)
    assert stopping.reason(output) is None
    stopping.request(output, "SIGTERM")
    assert stopping.reason(output) == "SIGTERM"
    for _ in range(2):
        stopping.withdraw(output)
        assert stopping.reason(output) is None


def test_a_unit_is_left_without_loading_a_model(tmp_path):
    stopping.request(str(tmp_path), "SIGINT")
    ref = ImageRef("a.jpg", "/in/a.jpg", "/in/a.jpg", "1-1", ".", "masks/a.jpg.png")
    step = SegmentUnit(package=None, options=SegmentOptions(str(tmp_path), "run"))
    (result,) = step.process(WorkUnit("unit", (ref,)))
    assert result.left == (ref,)
    assert (result.segmented, result.failures) == ((), ())
    assert not (tmp_path / "masks").exists()
