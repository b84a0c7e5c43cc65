"""Gating: duplicates and blurred photos are set aside before the network runs.

A photo is blurred if its sharpness is below a threshold. It is a duplicate if it looks like a photo
that is kept: one within some metres of it or, if a position is unknown, one of the last before it
in its folder or shard. Photos are compared in the order of their names, with those kept so far and
those that have results. So the choice depends on names and photos alone. No two photos that are
kept are duplicates of each other, so a killed run resumes with the same choice.

Photos that are set aside become rows in `gated/`. All of these are written before the first photo
is segmented.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from operator import attrgetter
from threading import BoundedSemaphore
from typing import NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsList, TaggedOutput

from models.engines.devices import cores
from transforms.flow import progress, request_counters
from transforms.flow.alone import Alone, Caller, call_here
from transforms.flow.concurrency import map_requests
from transforms.flow.records import Aside, PlannedImage, SkippedImages
from transforms.inputs.reading import read_image, room_for
from transforms.output import begun, columns, parquet, rows
from transforms.output.stopping import must_stop
from transforms.photos.decoding import DEFAULT_MAX_PIXELS
from transforms.photos.looks import look_at
from transforms.planning.duplicates import FOLDER, TILE, Candidate, find_duplicates
from transforms.planning.policy import Gate

COUNTERS = "citymask.gating"
"""Namespace of the Beam counters of this step: photos set aside, by reason."""

KEPT = "kept"
ASIDE = "aside"
TODO = "todo"
DONE = "done"
"""Outputs of the steps inside, and sides of the comparison."""

LEAST_SHARPNESS = 0.58
"""Photos with less are blurred. `benchmarks/gate.py` shows the effect of both thresholds."""

BATCH_SIZE = 64
"""Photos that one worker examines together, at most."""

FILES = 16
"""Files of `gated/` that a step writes, at most."""


class Gated(NamedTuple):
    """Outputs of `GateImages`.

    Attributes:
        kept: PCollection[PlannedImage], with their looks.
        aside: PCollection[Aside], set aside by this run.
        gated: PCollection[SkippedImages], their number, once their rows are written.
    """

    kept: beam.PCollection[PlannedImage]
    aside: beam.PCollection[Aside]
    gated: beam.PCollection[SkippedImages]


@dataclass
class GateImages(beam.PTransform):
    """Sets photos aside: PCollection[PlannedImage] -> Gated.

    Attributes:
        model: the `model_id` whose rows are compared with.
        gate: what is set aside.
        output: the output folder.
        run_id: the run whose rows these are.
        max_pixels: larger photos are kept, and fail when they are segmented.
        owner: who holds the lock of the folder, see `output.fencing.check`.
    """

    model: str
    gate: Gate
    output: str
    run_id: str
    max_pixels: int = DEFAULT_MAX_PIXELS
    owner: str = ""

    def expand(self, images: beam.PCollection[PlannedImage]) -> Gated:
        records = begun.Records(self.output, self.run_id, self.model, owner=self.owner)
        looked = (
            images
            | "SpreadImages" >> beam.Reshuffle()
            | "BatchImages" >> beam.BatchElements(max_batch_size=BATCH_SIZE)
            | "Look"
            >> beam.ParDo(_LookAt(self.gate, records, self.max_pixels)).with_outputs(
                KEPT, ASIDE, TODO
            )
        )
        write = _WriteGated(self.output, self.run_id, self.owner)
        candidates = looked[TODO]
        aside = [looked[ASIDE]]
        gated = [looked[ASIDE] | "Blurred" >> write]
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
                    >> beam.ParDo(_Compare(self.output, self.owner, place)).with_outputs(
                        ASIDE, TODO
                    )
                )
                aside.append(compared[ASIDE])
                gated.append(compared[ASIDE] | f"Write_{place}" >> write)
                # A run that is killed here finds these rows before it compares again.
                candidates = compared[TODO] | f"After_{place}" >> beam.WaitOn(gated[-1])
        written = gated | "Gated" >> beam.Flatten()
        kept = (
            looked[KEPT],
            candidates | "Planned" >> beam.Map(attrgetter("planned")),
        ) | "Kept" >> beam.Flatten()
        return Gated(
            kept | "AfterRows" >> beam.WaitOn(written), aside | "Aside" >> beam.Flatten(), written
        )

    def _done(self, candidates: beam.PCollection[Candidate]) -> beam.PCollection[Candidate]:
        """Photos with results that may be near the candidates."""
        places = candidates | "Places" >> beam.FlatMap(_places) | "EachOnce" >> beam.Distinct()
        return (
            candidates.pipeline
            | "Output" >> beam.Create([self.output], reshuffle=False)
            | "FindRows" >> beam.FlatMap(parquet.file_blocks, columns.STATISTICS)
            | "SpreadRowFiles" >> beam.Reshuffle()
            | "LooksOfRows" >> beam.FlatMap(_looks_of, self.model, AsList(places))
        )


@dataclass
class _WriteGated(beam.PTransform):
    """Writes rows in `gated/`: PCollection[Aside] -> PCollection[SkippedImages]."""

    output: str
    run_id: str
    owner: str

    def expand(self, aside: beam.PCollection[Aside]) -> beam.PCollection[SkippedImages]:
        return (
            aside
            | "KeyByName" >> beam.Map(_by_name).with_output_types(tuple[int, Aside])
            | "GroupIntoFiles" >> beam.GroupByKey()
            | "WriteRows" >> beam.FlatMap(_write, self.output, self.run_id, self.owner)
        )


class _LookAt(beam.DoFn):
    """Computes the looks of photos: batches of PlannedImage -> Candidate.

    Photos are on record meanwhile, and suspects are looked at in a process of their own, see
    `output.begun`. A photo that cannot be decoded, or that kills, is kept and fails when it is
    segmented. Once the run was asked to stop, all photos are kept; segmenting leaves them for the
    next run.
    """

    def __init__(self, gate: Gate, records: begun.Records, max_pixels: int):
        self._gate = gate
        self._records = records
        self._max_pixels = max_pixels

    def setup(self) -> None:
        self._decoding = BoundedSemaphore(cores())

    def process(self, images: Sequence[PlannedImage]) -> Iterator[TaggedOutput]:
        stopping = must_stop(self._records.output, self._records.owner)
        found = repeat(None) if stopping else self._candidates(images)
        for planned, candidate in zip(images, found, strict=False):
            if candidate is None or candidate.planned is None:
                yield TaggedOutput(KEPT, planned)
            elif self._gate.blurred and candidate.look.sharpness < LEAST_SHARPNESS:
                aside = Aside(candidate.planned, columns.BLURRED, candidate.look.sharpness)
                yield TaggedOutput(ASIDE, aside)
            else:
                yield TaggedOutput(TODO, candidate)
        request_counters.report()

    def _candidates(self, images: Sequence[PlannedImage]) -> Iterator[Candidate | None]:
        """The candidates of a batch, in its order; None for photos without a look."""
        suspects = [planned for planned in images if planned.suspicion]
        others = [planned for planned in images if not planned.suspicion]
        with self._records.meanwhile(others):
            found = dict(zip(others, map_requests(self._look, others), strict=True))
        with Alone() as process:
            for planned in suspects:
                call = partial(self._records.call_alone, process, planned)
                found[planned] = self._look(planned, call)
        return (found[planned] for planned in images)

    def _look(self, planned: PlannedImage, call: Caller = call_here) -> Candidate | None:
        ref = planned.ref
        try:
            with room_for(ref):
                data = read_image(ref, ref.version)
                with self._decoding:
                    look, capture = call(look_at, data, self._max_pixels)
        except Exception:  # Segmenting reports whatever is wrong with the image.
            return None
        capture = ref.capture.filled_from(capture)
        return Candidate(ref.image, look, capture, replace(planned, look=look))


class _Compare(beam.DoFn):
    """Finds the duplicates in a tile or a folder."""

    def __init__(self, output: str, owner: str, place: str):
        self._output = output
        self._owner = owner
        self._place = place

    def process(self, joined: tuple[str, dict[str, Iterable[Candidate]]]) -> Iterator[TaggedOutput]:
        todo = list(joined[1][TODO])
        aside: set[str] = set()
        # Once the run was asked to stop, some photos may have no look.
        if todo and not must_stop(self._output, self._owner):
            for item in find_duplicates(todo, joined[1][DONE], self._place):
                aside.add(item.planned.ref.image)
                yield TaggedOutput(ASIDE, item)
        for candidate in todo:
            if candidate.image not in aside:
                yield TaggedOutput(TODO, candidate)


def _write(
    keyed: tuple[int, Iterable[Aside]], output: str, run_id: str, owner: str
) -> Iterator[SkippedImages]:
    aside = list(keyed[1])
    rows.write_gated(output, aside, run_id, owner)
    for reason, number in Counter(item.reason for item in aside).items():
        Metrics.counter(COUNTERS, reason).inc(number)
    progress.report(skipped=len(aside))
    for group, number in Counter(item.planned.ref.group for item in aside).items():
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
    return zlib.crc32(aside.planned.ref.image.encode()) % FILES, aside
