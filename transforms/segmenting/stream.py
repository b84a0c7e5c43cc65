"""The stream: passes work units one after the other through the threads of a segmenter."""

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import chain

from transforms.flow import progress
from transforms.flow.concurrency import Pause
from transforms.flow.records import Segmented, UnitResult, WorkUnit
from transforms.output.columns import COMMIT
from transforms.segmenting.measurements import DONE, FAILED, MICROSECONDS, Measure
from transforms.segmenting.unit import UnitWork, _Item

TELL_SECONDS = 0.1
"""Time between two progress reports: one per photo would cost 1 % of the run time."""


class UnitStream:
    """Passes units through the threads of a segmenter, which stay busy between units.

    A unit whose images are finished is committed in the background, since flushing its masks to the
    disk takes a while. One unit at a time is; the next one waits for it.

    Args:
        segmenter: segments the units.
        measure: called in the caller's thread with the name and value of each measurement.

    Attributes:
        open_units: number of units that were added and whose images are not finished.
    """

    def __init__(self, segmenter: UnitWork, measure: Measure):
        self._segmenter = segmenter
        self._measure = measure
        self._queue: deque[_Item] = deque()
        self._closed = False
        self.open_units = 0
        self._ended: dict[str, list[_Item]] = defaultdict(list)
        self._committing: Future[tuple[UnitResult, float]] | None = None
        self._untold: Counter[str] = Counter()
        self._told = -math.inf
        self._items = segmenter.work_on(self._feed())

    def add(self, unit: WorkUnit) -> Iterator[UnitResult]:
        """Add a unit; returns the results of units that are committed, usually earlier ones.

        Raises:
            StorageError: a unit cannot be put on record, or cannot be committed.
        """
        self._segmenter.begin(unit)
        self.open_units += 1
        self._queue.extend(_Item(unit, planned) for planned in unit.images)
        return self._results()

    def finish(self) -> Iterator[UnitResult]:
        """The results of all remaining units; raises what `add` raises."""
        self._closed = True
        return self._results()

    def _feed(self) -> Iterator[_Item | Pause]:
        while True:
            while self._queue:
                yield self._queue.popleft()
            if self._closed:
                return
            yield Pause.PAUSE

    def _results(self) -> Iterator[UnitResult]:
        for item in self._items:
            if isinstance(item, Pause):
                break
            for name, value in item.measured.items():
                self._measure(name, value)
            ending = DONE if isinstance(item.outcome, Segmented) else FAILED
            self._measure(ending, 1)
            self._untold[ending] += 1
            if time.monotonic() - self._told > TELL_SECONDS:
                self._tell()
            of_unit = self._ended[item.unit.unit_id]
            of_unit.append(item)
            if len(of_unit) == len(item.unit.images):
                yield from self._committed()
                items = self._ended.pop(item.unit.unit_id)
                self._committing = self._segmenter.start_commit(item.unit, items)
                self.open_units -= 1
        if self._closed or (self._committing and self._committing.done()):
            yield from self._committed()
        self._tell()

    def _committed(self) -> Iterator[UnitResult]:
        """The result of the unit that is being committed, if any, once it is."""
        if self._committing is None:
            return
        result, seconds = self._committing.result()
        self._committing = None
        self._measure(COMMIT + MICROSECONDS, seconds * 1e6)
        yield result

    def _tell(self) -> None:
        """Report how many images have finished since the last report."""
        progress.report(**self._untold)
        self._untold.clear()
        self._told = time.monotonic()


def segment_unit(segmenter: UnitWork, unit: WorkUnit, measure: Measure) -> UnitResult:
    """Write the masks of a unit, then commit its rows: each image gets a row of some kind.

    Args:
        segmenter: segments the unit.
        unit: the unit.
        measure: called in this thread with the name and value of each measurement.

    Raises:
        StorageError: the unit cannot be put on record, or cannot be committed.
    """
    stream = UnitStream(segmenter, measure)
    (result,) = chain(stream.add(unit), stream.finish())
    return result
