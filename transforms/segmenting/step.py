"""The segmenting step: a DoFn around a stream of work units."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

from models.packages import ModelPackage
from transforms import storage
from transforms.flow import request_counters
from transforms.flow.records import ImageRef, UnitResult, WorkUnit
from transforms.output.stopping import must_stop
from transforms.planning.deciding import plan_new
from transforms.planning.units import DEFAULT_UNIT_SIZE, GroupIntoUnits, TakeImages
from transforms.segmenting.measurements import (
    BATCH_SIZE,
    COUNTERS,
    LEFT,
    MICROSECONDS,
    PIXELS,
    PRECISIONS,
)
from transforms.segmenting.options import SegmentOptions
from transforms.segmenting.stream import UnitStream, segment_unit
from transforms.segmenting.suspects import SuspectSegmenter
from transforms.segmenting.unit import UnitSegmenter, load_segmenter, records_of

MOST_UNITS = 2
"""Maximum units in progress at a time; they are finished when a run is asked to stop."""

LOOK_SECONDS = 5.0
"""Time between two checks of a remote output folder for a request to stop."""


@dataclass
class SegmentArchive(beam.PTransform):
    """Segments images: PCollection[ImageRef] -> PCollection[UnitResult].

    Every image is segmented, regardless of existing results, and its mask is written to `masks/`.
    Images are grouped into work units; each unit's masks are written first, then its rows. Only
    descriptors and counts are shuffled, never pixels.

    Attributes:
        package: the model.
        options: where and how images are segmented.
        unit_size: maximum images in a work unit.
        max_images: maximum images to segment; None: all. The others are left.
        hints: Beam's resource hints for the step that runs the network.
    """

    package: ModelPackage
    options: SegmentOptions
    unit_size: int = DEFAULT_UNIT_SIZE
    max_images: int | None = None
    hints: Mapping[str, str] = field(default_factory=dict)

    def expand(self, refs: beam.PCollection[ImageRef]) -> beam.PCollection[UnitResult]:
        model = self.options.masks.model_id(self.package)
        planned = refs | "PlanNew" >> beam.Map(plan_new)
        units = planned | "GroupIntoUnits" >> GroupIntoUnits(model, self.unit_size)
        beyond = []
        if self.max_images is not None:
            taken = units | "TakeImages" >> TakeImages(model, self.max_images)
            units, beyond = taken.units, [taken.beyond]
        segment = beam.ParDo(SegmentUnit(self.package, self.options))
        results = (
            units
            | "SpreadUnits" >> beam.Reshuffle()
            | "SegmentUnit" >> segment.with_resource_hints(**self.hints)
        )
        return (results, *beyond) | "Results" >> beam.Flatten()


class SegmentUnit(beam.DoFn):
    """Segments work units; model and threads are shared by the whole process.

    The next unit starts while the last photos of a unit are still in progress: the result of a unit
    usually comes with a later unit, at the latest at the end of the bundle. Suspects are segmented
    then: those of earlier runs, and the units that this run began before in a process that died.
    """

    def __init__(self, package: ModelPackage, options: SegmentOptions):
        self._package = package
        self._options = options
        self._shared = Shared()
        self._segmenter: UnitSegmenter | None = None
        self._stream: UnitStream | None = None
        self._suspects: list[WorkUnit] = []
        self._looked = -math.inf

    def start_bundle(self) -> None:
        self._stream = None  # The stream of a failed bundle is not continued.
        self._suspects = []

    def process(self, unit: WorkUnit) -> Iterator[UnitResult]:
        if self._stream and self._stream.open_units == MOST_UNITS:
            yield from self._counted(self._stream.finish())
            self._stream = None
        if self._must_stop():
            yield _left(unit)
            return
        records = records_of(self._package, self._options)
        if unit.suspicion or records.has_begun(unit.unit_id):
            self._suspects.append(unit)
            return
        if self._segmenter is None:  # Not in setup, so that a run without work loads no model.
            self._segmenter = self._shared.acquire(self._load)
        if self._stream is None:
            self._stream = UnitStream(self._segmenter, _measure)
        yield from self._counted(self._stream.add(unit))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._stream:
            for result in self._counted(self._stream.finish()):
                yield GlobalWindows.windowed_value(result)
        if self._suspects:
            for result in self._counted(self._segment_suspects()):
                yield GlobalWindows.windowed_value(result)

    def _segment_suspects(self) -> Iterator[UnitResult]:
        """Segment suspects, the worst last: they may cost the others another run."""
        with SuspectSegmenter(self._package, self._options) as segmenter:
            for unit in sorted(self._suspects, key=attrgetter("suspicion")):
                if self._must_stop():
                    yield _left(unit)
                else:
                    yield segment_unit(segmenter, unit, _measure)

    def _counted(self, results: Iterable[UnitResult]) -> Iterator[UnitResult]:
        for result in results:
            for number, name in enumerate(self._package.classes.names):
                pixels = sum(item.pixels[number] for item in result.segmented)
                Metrics.counter(PIXELS, name).inc(pixels)
            precisions = Counter(item.precision for item in result.segmented)
            for precision, photos in precisions.items():
                Metrics.counter(PRECISIONS, precision.value).inc(photos)
            yield result
        request_counters.report()

    def _load(self) -> UnitSegmenter:
        return load_segmenter(self._package, self._options)

    def _must_stop(self) -> bool:
        """If the check costs a request, the answer may be some seconds old."""
        now = time.monotonic()
        costs = storage.store_of(self._options.output).costs_requests
        if costs and now - self._looked < LOOK_SECONDS:
            return False
        self._looked = now
        return must_stop(self._options.output, self._options.owner)


def _left(unit: WorkUnit) -> UnitResult:
    """The result of a unit that is not segmented because the run was asked to stop."""
    _measure(LEFT, len(unit.images))
    return UnitResult(unit.unit_id, (), (), left=unit.images)


def _measure(name: str, value: float) -> None:
    _measuring(name)(round(value))


@cache
def _measuring(name: str) -> Callable[[int], None]:
    """The update function of a Beam metric; cached, as creating a metric costs more than a call."""
    if name == BATCH_SIZE or name.endswith(MICROSECONDS):
        return Metrics.distribution(COUNTERS, name).update
    return Metrics.counter(COUNTERS, name).inc
