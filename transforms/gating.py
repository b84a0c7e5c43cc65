"""Gating: photos that are not worth the network's time are set aside before it sees them.

A photo is blurred where its sharpness is below a threshold. It is a duplicate where it looks like
one that is kept: within some metres of it, and then, if not both positions are known, among the
last ones before it in its folder or shard. Photos are decided about in the order of their names,
and compared with those that are kept so far and those that are done. So what is kept depends on
names and photos alone. Among the photos that are kept none is a duplicate of another; therefore a
run that was killed is gone on with as if it had not been.

What is set aside are rows in `gated/`. All of them are written before the first photo is segmented.
"""

import math
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product, repeat
from threading import BoundedSemaphore

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsList, TaggedOutput

from models.engines.devices import cores
from transforms import columns, progress, requests, rows
from transforms.concurrency import map_requests
from transforms.looks import look_at
from transforms.planning import GATED, Gate, SkippedImages
from transforms.records import Aside, Capture, ImageRef, Look
from transforms.segmenting import SegmentOptions, must_stop, read_image

COUNTERS = "citymask.gating"
"""Namespace of the Beam counters of this step: photos that are set aside, by reason."""

KEPT = "kept"
ASIDE = "aside"
"""Outputs of the steps, beside `GATED`."""

MOST_BITS = 32
"""Hashes of duplicates differ in so many of their 256 bits at most."""

LEAST_SHARPNESS = 0.58
"""Photos of less are blurred. `benchmarks/gate.py` shows what both thresholds tell apart."""

METRES = 20.0
"""Photos with positions are compared up to this distance."""

TILE_DEGREES = 0.01
"""They are compared within tiles of so many degrees, about a kilometre."""

METRES_PER_DEGREE = 6_371_000 * math.pi / 180

BEFORE = 5
"""Photos without a position are compared with so many that are kept before them."""

BATCH_SIZE = 64
"""Most photos that one worker looks at together."""

FILES = 16
"""Rows of photos that are set aside are written to so many files at most."""

TODO = "todo"
DONE = "done"

TILE = "tile"
FOLDER = "folder"
"""Places that photos are compared in, one after the other: properties of `Candidate`."""


@dataclass(frozen=True)
class Candidate:
    """A photo to decide about, or one that is done and is only compared with.

    Attributes:
        image: its name.
        look: what it looks like.
        capture: where it was taken.
        ref: None where it is done.
    """

    image: str
    look: Look
    capture: Capture
    ref: ImageRef | None = None

    @property
    def position(self) -> tuple[float, float] | None:
        """Latitude and longitude; None where they are not known."""
        latitude, longitude = self.capture.latitude, self.capture.longitude
        return None if latitude is None or longitude is None else (latitude, longitude)

    @property
    def folder(self) -> str:
        """The folder or shard that it is in."""
        return f"folder {self.image.rpartition('/')[0]}"

    @property
    def tile(self) -> str:
        """The tile that it was taken in; without a position one of its own."""
        if self.position is None:
            return f"image {self.image}"
        row, column = _cell(self.position, TILE_DEGREES)
        return f"tile {row} {column}"


class Before:
    """The last photos that are kept in a folder."""

    def __init__(self) -> None:
        self._kept: deque[Candidate] = deque(maxlen=BEFORE)

    def add(self, candidate: Candidate) -> None:
        """Keep a photo."""
        self._kept.append(candidate)

    def near(self, candidate: Candidate) -> Iterator[Candidate]:
        """Those to compare with; two with positions have been compared by them."""
        for other in self._kept:
            if candidate.position is None or other.position is None:
                yield other


class Around:
    """The photos that are kept in a tile, by place; from the beginning those that are done."""

    def __init__(self, done: Iterable[Candidate] = ()):
        self._cells: dict[tuple[int, int], dict[str, Candidate]] = defaultdict(dict)
        for candidate in done:
            self.add(candidate)

    def add(self, candidate: Candidate) -> None:
        """Keep a photo."""
        self._cells[_cell(_place(candidate), METRES)][candidate.image] = candidate

    def near(self, candidate: Candidate) -> Iterator[Candidate]:
        """Those to compare with."""
        place = _place(candidate)
        row, column = _cell(place, METRES)
        for below, right in product((-1, 0, 1), repeat=2):
            for other in self._cells.get((row + below, column + right), {}).values():
                if math.dist(place, _place(other)) <= METRES:
                    yield other


def find_duplicates(
    todo: Iterable[Candidate], done: Iterable[Candidate], place: str
) -> Iterator[Aside]:
    """The duplicates among the photos of one tile or folder.

    Args:
        todo: those to decide about, in any order.
        done: those that are done; one of an image that is to do counts for nothing.
        place: `TILE` or `FOLDER`.
    """
    known = {candidate.image: candidate for candidate in done}
    candidates = known | {candidate.image: candidate for candidate in todo}
    still_done = (candidate for candidate in candidates.values() if candidate.ref is None)
    kept = Around(still_done) if place == TILE else Before()
    for _, candidate in sorted(candidates.items()):
        if candidate.ref:
            near = ((_bits(candidate, other), other.image) for other in kept.near(candidate))
            bits, of = min(near, default=(MOST_BITS + 1, ""))
            if bits <= MOST_BITS:
                yield Aside(candidate.ref, columns.DUPLICATE, bits, of)
                continue
        kept.add(candidate)


@dataclass
class GateImages(beam.PTransform):
    """Sets photos aside: PCollection[ImageRef] -> `kept` PCollection[ImageRef], with their looks,
    and `gated` PCollection[SkippedImages].

    Attributes:
        model: the `model_id` whose rows are compared with.
        options: where results go, by which run, and the largest photos.
        gate: what is set aside.
    """

    model: str
    options: SegmentOptions
    gate: Gate

    def expand(self, refs: beam.PCollection[ImageRef]):
        looked = (
            refs
            | "SpreadImages" >> beam.Reshuffle()
            | "BatchImages" >> beam.BatchElements(max_batch_size=BATCH_SIZE)
            | "Look" >> beam.ParDo(_LookAt(self.options, self.gate)).with_outputs(KEPT, ASIDE, TODO)
        )
        candidates = looked[TODO]
        gated = [looked[ASIDE] | "Blurred" >> _WriteGated(self.options)]
        if self.gate.duplicates:
            done = self._done(candidates)
            for place in (TILE, FOLDER):
                compared = (
                    {
                        TODO: candidates | f"KeyBy_{place}" >> beam.Map(_keyed, place),
                        DONE: done | f"KeyDoneBy_{place}" >> beam.Map(_keyed, place),
                    }
                    | f"JoinBy_{place}" >> beam.CoGroupByKey()
                    | f"Compare_{place}"
                    >> beam.ParDo(_Compare(self.options, place)).with_outputs(ASIDE, TODO)
                )
                gated.append(compared[ASIDE] | f"Write_{place}" >> _WriteGated(self.options))
                # A run that is killed here finds these rows before it compares anew.
                candidates = compared[TODO] | f"After_{place}" >> beam.WaitOn(gated[-1])
        written = gated | "Gated" >> beam.Flatten()
        kept = (looked[KEPT], candidates | "Refs" >> beam.Map(_ref_of)) | "Kept" >> beam.Flatten()
        return {KEPT: kept | "AfterRows" >> beam.WaitOn(written), GATED: written}

    def _done(self, candidates: beam.PCollection[Candidate]) -> beam.PCollection[Candidate]:
        """The photos with rows that candidates may be near to."""
        places = candidates | "Places" >> beam.FlatMap(_places) | "EachOnce" >> beam.Distinct()
        return (
            candidates.pipeline
            | "Output" >> beam.Create([self.options.output], reshuffle=False)
            | "FindRows" >> beam.FlatMap(rows.file_blocks, columns.STATISTICS)
            | "SpreadRowFiles" >> beam.Reshuffle()
            | "LooksOfRows" >> beam.FlatMap(_looks_of, self.model, AsList(places))
        )


@dataclass
class _WriteGated(beam.PTransform):
    """Writes rows in `gated/`: PCollection[Aside] -> PCollection[SkippedImages]."""

    options: SegmentOptions

    def expand(self, aside: beam.PCollection[Aside]) -> beam.PCollection[SkippedImages]:
        return (
            aside
            | "KeyByName" >> beam.Map(_by_name).with_output_types(tuple[int, Aside])
            | "GroupIntoFiles" >> beam.GroupByKey()
            | "WriteRows" >> beam.FlatMap(_write, self.options)
        )


class _LookAt(beam.DoFn):
    """Looks at photos: batches of ImageRef -> Candidate.

    What cannot be looked at is kept, and fails where it is segmented. Once the run was asked to
    stop, everything is kept, and left for the next run there.
    """

    def __init__(self, options: SegmentOptions, gate: Gate):
        self._options = options
        self._gate = gate

    def setup(self) -> None:
        self._decoding = BoundedSemaphore(cores())

    def process(self, refs: Sequence[ImageRef]) -> Iterator[TaggedOutput]:
        stopping = must_stop(self._options)
        found = repeat(None) if stopping else map_requests(self._look, refs)
        for ref, candidate in zip(refs, found, strict=False):
            if candidate is None or candidate.ref is None:
                yield TaggedOutput(KEPT, ref)
            elif self._gate.blurred and candidate.look.sharpness < LEAST_SHARPNESS:
                aside = Aside(candidate.ref, columns.BLURRED, candidate.look.sharpness)
                yield TaggedOutput(ASIDE, aside)
            else:
                yield TaggedOutput(TODO, candidate)
        requests.report()

    def _look(self, ref: ImageRef) -> Candidate | None:
        try:
            data = read_image(ref, ref.version)
            with self._decoding:
                look, capture = look_at(data, self._options.max_pixels)
        except Exception:  # Whatever is wrong with the image is told where it is segmented.
            return None
        return Candidate(ref.image, look, ref.capture.filled_from(capture), replace(ref, look=look))


class _Compare(beam.DoFn):
    """Finds the duplicates in a tile or a folder."""

    def __init__(self, options: SegmentOptions, place: str):
        self._options = options
        self._place = place

    def process(self, joined: tuple[str, dict[str, Iterable[Candidate]]]) -> Iterator[TaggedOutput]:
        todo = list(joined[1][TODO])
        aside: set[str] = set()
        # Once the run was asked to stop, there may be photos that were not looked at.
        if todo and not must_stop(self._options):
            for item in find_duplicates(todo, joined[1][DONE], self._place):
                aside.add(item.ref.image)
                yield TaggedOutput(ASIDE, item)
        for candidate in todo:
            if candidate.image not in aside:
                yield TaggedOutput(TODO, candidate)


def _write(keyed: tuple[int, Iterable[Aside]], options: SegmentOptions) -> Iterator[SkippedImages]:
    aside = list(keyed[1])
    rows.write_gated(options.output, aside, options.run_id)
    for reason, number in Counter(item.reason for item in aside).items():
        Metrics.counter(COUNTERS, reason).inc(number)
    progress.report(skipped=len(aside))
    for group, number in Counter(item.ref.group for item in aside).items():
        yield SkippedImages(group, number)


def _looks_of(files: tuple[str, ...], model: str, places: Iterable[str]) -> Iterator[Candidate]:
    wanted = set(places)
    for image, look, capture in rows.looks_of(files, model):
        candidate = Candidate(image, look, capture)
        if not wanted.isdisjoint(_places(candidate)):
            yield candidate


def _places(candidate: Candidate) -> list[str]:
    return [candidate.folder, *([candidate.tile] if candidate.position else [])]


def _keyed(candidate: Candidate, place: str) -> tuple[str, Candidate]:
    return getattr(candidate, place), candidate


def _by_name(aside: Aside) -> tuple[int, Aside]:
    return zlib.crc32(aside.ref.image.encode()) % FILES, aside


def _ref_of(candidate: Candidate) -> ImageRef | None:
    return candidate.ref


def _bits(a: Candidate, b: Candidate) -> int:
    """In how many bits their hashes differ."""
    return (int(a.look.perceptual_hash, 16) ^ int(b.look.perceptual_hash, 16)).bit_count()


def _place(candidate: Candidate) -> tuple[float, float]:
    """Metres to the north and the east, in the plane of the tile; without a position 0."""
    latitude, longitude = candidate.position or (0.0, 0.0)
    row, _ = _cell((latitude, longitude), TILE_DEGREES)
    east = longitude * math.cos(math.radians(row * TILE_DEGREES))
    return latitude * METRES_PER_DEGREE, east * METRES_PER_DEGREE


def _cell(point: tuple[float, float], size: float) -> tuple[int, int]:
    return math.floor(point[0] / size), math.floor(point[1] / size)
