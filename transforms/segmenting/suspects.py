"""Suspects: photos that may have killed a process are segmented one at a time in another one."""

from collections.abc import Iterable, Iterator

from models.packages import ModelPackage
from transforms import storage
from transforms.flow.alone import Alone, ProcessKilled
from transforms.flow.concurrency import Pause
from transforms.inputs.reading import is_large
from transforms.output.columns import ALONE
from transforms.segmenting.options import SegmentOptions
from transforms.segmenting.unit import UnitSegmenter, UnitWork, _Item, load_segmenter


class SuspectSegmenter(UnitWork):
    """Segments units of suspects: this process reads and writes, the other does what is between.

    As a context it ends the other process. One thread must do it all, see `Alone`.

    Args:
        package: the model.
        options: where and how images are segmented.
    """

    def __init__(self, package: ModelPackage, options: SegmentOptions):
        super().__init__(package, options)
        self._process = Alone((_make_ready, (package, options)))

    def __enter__(self) -> "SuspectSegmenter":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()

    def work_on(self, items: Iterable[_Item | Pause]) -> Iterator[_Item | Pause]:
        """See `UnitWork.work_on`; one image is in progress."""
        for item in items:
            yield item if isinstance(item, Pause) else self._write(self._segment(item))

    def _segment(self, item: _Item) -> _Item:
        ref = item.planned.ref
        # The other process reads a large file of this machine, so that memory holds it once.
        if not (is_large(ref) and storage.store_of(ref.path).local_paths):
            item = self._read(item)
            if item.outcome:
                return item
        try:
            return self._records.call_alone(self._process, item.planned, _segment, item)
        except ProcessKilled as error:
            self._records.end(self._records.name_alone(item.planned))
            item.fail(ALONE, error)
            return item


_ready: list[UnitSegmenter] = []
"""The segmenter of the other process, once it is loaded there."""


def _make_ready(package: ModelPackage, options: SegmentOptions) -> None:
    """Load the model and run it once, so that too little memory for it is no photo's fault."""
    segmenter = load_segmenter(package, options)
    segmenter.try_out(package.input_width, package.input_height)
    _ready[:] = [segmenter]


def _segment(item: _Item) -> _Item:
    return _ready[0].segment(item)
