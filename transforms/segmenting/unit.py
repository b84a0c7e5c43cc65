"""Segmenting: from work units to masks and committed rows, everything inside one DoFn.

Many threads read, as they mostly wait for storage. For the computation there is one thread per core
plus two spare ones. If the network takes one photo at a time, as on a CPU, each of these threads
takes a photo from its bytes to its files, so no core waits for another. If it takes batches, as on
a GPU, they decode ahead of it and encode behind it. They also write the files, unless that means to
wait for requests; then many threads write. Each hand-over of a photo between threads costs time
with Python's lock. Pixels never leave the DoFn, and the depths of the queues bound the memory. A
large photo does not wait in a queue as bytes: the thread that decodes it reads it.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from models.engines.devices import cores
from models.packages import ModelPackage
from models.segmenter import Inferred, Prepared, Segmenter
from transforms import storage
from transforms.flow.concurrency import REQUESTS, Pause, map_ahead
from transforms.flow.records import (
    Failure,
    Fault,
    PlannedImage,
    Segmented,
    UnitResult,
    WorkUnit,
)
from transforms.inputs.reading import is_large, read_image, room_for
from transforms.output import begun, fencing, model_files, names, rows
from transforms.output.columns import DECODE, ENCODE, INFER, READ, UPSAMPLE, WRITE
from transforms.output.fencing import Fence
from transforms.output.locking import LockLostError
from transforms.photos import decoding, mask_files, projections
from transforms.photos.memory import reserved
from transforms.segmenting.faults import fault_of
from transforms.segmenting.measurements import (
    BATCH_SIZE,
    BYTES_IN,
    BYTES_OUT,
    CONTRADICTIONS,
    FURTHER,
    MICROSECONDS,
    PANORAMAS,
    UNREADABLE,
)
from transforms.segmenting.options import SegmentOptions
from transforms.segmenting.outages import OutageWatch
from transforms.segmenting.outputs import SegmentedPhoto, load_outputs

logger = logging.getLogger(__name__)

SPARE_THREADS = 2
"""Worker threads in addition to one per core: while one thread waits for the network or for the
GIL, another uses its core."""

AHEAD = 4
"""Photos per thread that wait as bytes, or with their files ready to be written."""

WINDOWED_PHOTOS = 2
"""Photos held decoded in memory at a time when they are segmented in windows: they may be large,
and the windows of one keep the machine busy while the other is decoded."""


MASK_BYTES = 2
"""Memory for a mask and its encoding, in bytes per pixel of the photo, at most."""


@dataclass
class _Item:
    """An image of a unit on its way through the stages, and its outcome."""

    unit: WorkUnit
    planned: PlannedImage
    data: bytes | None = None
    photo: decoding.Photo | None = None
    prepared: Prepared | None = None
    inferred: Inferred | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    outcome: Segmented | Failure | None = None
    measured: dict[str, float] = field(default_factory=dict)
    _stage: str = READ

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Context manager: an error inside becomes the failure of this image only."""
        try:
            yield
        except LockLostError:
            raise
        except Exception as error:
            self.fail(self._stage, error)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Context manager: names and times a stage."""
        self._stage = name
        start = time.perf_counter()
        yield
        self.measured[name + MICROSECONDS] = (time.perf_counter() - start) * 1e6

    def fail(self, stage: str, error: Exception) -> None:
        """Set the outcome to a failure in `stage`."""
        message = names.printable(str(error)) or "no further message"
        fault = fault_of(error, self.planned.ref.version)
        self.outcome = Failure(self.planned, stage, type(error).__name__, message, fault)
        self.let_go()

    def failed_by(self, fault: Fault) -> bool:
        """Whether the image has failed by this fault."""
        return isinstance(self.outcome, Failure) and self.outcome.fault is fault

    def let_go(self) -> None:
        """Free memory that is no longer needed."""
        self.data = self.photo = self.prepared = self.inferred = None
        self.files = {}


class UnitWork(ABC):
    """What is done for each unit, whatever process segments its photos: files and rows.

    Args:
        package: the model.
        options: where and how images are segmented.
    """

    def __init__(self, package: ModelPackage, options: SegmentOptions):
        self._options = options
        self._classes = package.classes
        self._model = options.masks.model_id(package)
        self._mask_values = options.masks.values(package.classes)
        self._outages = OutageWatch(options.output, options.owner)
        self._fence = Fence(options.output, options.owner)
        self._records = records_of(package, options)
        self._committing = ThreadPoolExecutor(1, "commit")

    @abstractmethod
    def work_on(self, items: Iterable[_Item | Pause]) -> Iterator[_Item | Pause]:
        """Process images from their references to their files."""

    def begin(self, unit: WorkUnit) -> None:
        """Put the images of a unit on record; raises what `rows.commit` raises."""
        self._records.begin(unit.unit_id, unit.images)

    def start_commit(
        self, unit: WorkUnit, items: Iterable[_Item]
    ) -> Future[tuple[UnitResult, float]]:
        """Commit a unit whose images are finished, in a thread: its result, and the seconds taken.

        The thread raises what `rows.commit` raises where the unit cannot be committed.
        """
        return self._committing.submit(self._commit, unit, items)

    def _commit(self, unit: WorkUnit, items: Iterable[_Item]) -> tuple[UnitResult, float]:
        start = time.perf_counter()
        outcomes = {item.planned: item.outcome for item in items}
        ordered = [outcomes[planned] for planned in unit.images]
        result = UnitResult(
            unit.unit_id,
            tuple(outcome for outcome in ordered if isinstance(outcome, Segmented)),
            tuple(outcome for outcome in ordered if isinstance(outcome, Failure)),
        )
        output = self._options.output
        fencing.check_folders(output, self._options.folders)
        fencing.check_masks(output, (item.planned.mask for item in result.segmented))
        rows.commit(
            output,
            result,
            self._classes,
            self._model,
            self._options.run_id,
            self._options.merged,
            self._mask_values,
            self._options.durable,
            self._options.owner,
        )
        self._records.end(unit.unit_id)
        return result, time.perf_counter() - start

    def _read(self, item: _Item) -> _Item:
        with item.isolated(), item.stage(READ):
            item.data = read_image(item.planned.ref, item.planned.ref.version)
            item.measured[BYTES_IN] = len(item.data)
        unreadable = item.failed_by(Fault.STORAGE)
        self._outages.saw(unreadable)
        if unreadable:
            item.measured[UNREADABLE] = 1
        return item

    def _write(self, item: _Item) -> _Item:
        if not item.files:
            return item
        with item.isolated(), item.stage(WRITE):
            for path, data in item.files.items():
                self._fence.write(path, data, durable=False)
                item.measured[BYTES_OUT] = item.measured.get(BYTES_OUT, 0) + len(data)
        item.let_go()
        return item


class UnitSegmenter(UnitWork):
    """Segments units with one model, on any runner or without one.

    Args:
        package: the model.
        segmenter: the loaded model.
        options: where and how images are segmented.
    """

    def __init__(self, package: ModelPackage, segmenter: Segmenter, options: SegmentOptions):
        super().__init__(package, options)
        self._segmenter = segmenter
        self._values = np.array(self._mask_values, np.uint8)
        self._palette = package.classes.palette(self._mask_values)
        self._outputs = load_outputs(options.outputs)
        self._bytes_per_pixel = MASK_BYTES + sum(
            output.bytes_per_pixel for output in self._outputs.values()
        )
        self._keeps_photos = any(output.needs_photo for output in self._outputs.values())
        self._reading = ThreadPoolExecutor(REQUESTS, "read")
        threads = options.engine.threads or cores()
        windows = segmenter.windows is not None
        self._alone = windows or (segmenter.batch_size == 1 and segmenter.streams >= threads)
        self._threads = WINDOWED_PHOTOS if windows else threads + SPARE_THREADS
        self._working = ThreadPoolExecutor(self._threads, "work")
        self._inferring = ThreadPoolExecutor(segmenter.streams, "infer")
        self._writing = ThreadPoolExecutor(REQUESTS, "write")
        self._writes_behind = storage.store_of(options.output).costs_requests

    def work_on(self, items: Iterable[_Item | Pause]) -> Iterator[_Item | Pause]:
        """See `UnitWork.work_on`; many images are in progress."""
        data = map_ahead(self._reading, self._read_ahead, items, REQUESTS)
        encoded = self._each_alone(data) if self._alone else self._in_batches(data)
        if not self._writes_behind:
            return encoded
        return map_ahead(self._writing, self._write, encoded, REQUESTS)

    def try_out(self, width: int, height: int) -> None:
        """Segment a blank photo; raises what `Segmenter.segment` raises."""
        self._segmenter.segment(np.zeros((height, width, 3), np.uint8))

    def segment(self, item: _Item) -> _Item:
        """Decode, segment and encode an image in this thread."""
        (item,) = self._predict([self._decode(item)])
        return self._encode(item)

    def _read_ahead(self, item: _Item) -> _Item:
        return item if is_large(item.planned.ref) else self._read(item)

    def _decode(self, item: _Item) -> _Item:
        if item.data is None and item.outcome is None:
            self._read(item)
        if item.data is None:
            return item
        with item.isolated():
            with item.stage(DECODE):
                claim = projections.claimed(self._options.projection, item.planned.ref.extra)
                item.photo = decoding.decode_photo(
                    item.data, self._segmenter.shape_for, self._options.max_pixels, claim
                )
                item.prepared = self._segmenter.prepare(item.photo)
                if item.photo.further:
                    item.measured[FURTHER] = item.photo.further
                    logger.debug(
                        "%s: %d further photos in this file are passed over",
                        item.planned.ref.uri,
                        item.photo.further,
                    )
                if item.photo.contradiction:
                    item.measured[CONTRADICTIONS] = 1
                    logger.debug("%s: flat, %s", item.planned.ref.uri, item.photo.contradiction)
            if not self._keeps_photos:
                item.data = None
        return item

    def _end(self, item: _Item) -> _Item:
        """Write the files of an image, unless other threads do."""
        return item if self._writes_behind else self._write(item)

    def _each_alone(self, items: Iterable[_Item | Pause]) -> Iterator[_Item | Pause]:
        """Decode, segment and encode each image in one thread."""

        def work(item: _Item) -> _Item:
            with room_for(item.planned.ref):
                return self._end(self.segment(item))

        return map_ahead(self._working, work, items, AHEAD * self._threads)

    def _in_batches(self, items: Iterable[_Item | Pause]) -> Iterator[_Item | Pause]:
        """Decode ahead of the network and encode behind it."""

        def decode(item: _Item) -> _Item:
            with room_for(item.planned.ref):
                return self._decode(item)

        depth = 2 * self._segmenter.batch_size
        decoded = map_ahead(self._working, decode, items, depth)
        batches = map_ahead(
            self._inferring, self._predict, self._gather(decoded), self._segmenter.streams
        )
        return map_ahead(
            self._working, lambda item: self._end(self._encode(item)), _each_of(batches), depth
        )

    def _gather(self, items: Iterable[_Item | Pause]) -> Iterator[Sequence[_Item] | Pause]:
        """Batches of images with equal network shape and margin; a failed image is alone.

        An image waits for others of its shape until the next unit has been added.
        """
        waiting: dict[tuple[int, ...], list[_Item]] = defaultdict(list)
        newest = None
        for item in items:
            if isinstance(item, Pause):
                for shape, batch in list(waiting.items()):
                    if batch[0].unit is not newest:
                        yield waiting.pop(shape)
                yield item
                continue
            newest = item.unit
            if item.prepared is None:
                yield [item]
                continue
            shape = item.prepared.shape
            waiting[shape].append(item)
            if len(waiting[shape]) >= self._segmenter.batch_size:
                yield waiting.pop(shape)
        yield from waiting.values()

    def _predict(self, batch: Sequence[_Item]) -> Sequence[_Item]:
        """Run the network on a batch and store each image's result."""
        prepared = [item.prepared for item in batch if item.prepared]
        if not prepared:
            return batch
        start = time.perf_counter()
        try:
            answers = self._segmenter.infer(prepared)
        except Exception as error:
            if len(batch) == 1:
                batch[0].fail(INFER, error)
                return batch
            # One image may have caused the error: retry each alone.
            return [item for one in batch for item in self._predict([one])]
        batch[0].measured[INFER + MICROSECONDS] = (time.perf_counter() - start) * 1e6
        batch[0].measured[BATCH_SIZE] = len(batch)
        for item, answer in zip(batch, answers, strict=True):
            if isinstance(answer, ValueError):
                item.fail(INFER, answer)
            else:
                item.inferred = answer
        return batch

    def _encode(self, item: _Item) -> _Item:
        """Make the files of an image: its mask and the requested outputs."""
        photo, planned = item.photo, item.planned
        if photo is None or item.inferred is None:
            return item
        pixels = photo.width * photo.height
        with item.isolated(), reserved(pixels * self._bytes_per_pixel):
            with item.stage(UPSAMPLE):
                found = self._segmenter.finish(item.inferred)
            with item.stage(ENCODE):
                mask = self._values[found.mask] if self._options.masks.label_ids else found.mask
                made = SegmentedPhoto(
                    item.data, self._options.max_pixels, found, mask, self._palette
                )
                values = {}
                for name, output in self._outputs.items():
                    file, values[name] = output.make(made)
                    if file is not None:
                        item.files[names.beside(planned.mask, name)] = file
                # The mask comes last: if another output fails, an older mask still fits its row.
                item.files[planned.mask] = mask_files.encode_mask(mask, self._palette)
            capture = planned.ref.capture.filled_from(photo.capture)
            item.outcome = Segmented(
                planned,
                photo.width,
                photo.height,
                capture,
                found.pixels,
                self._segmenter.precision,
                found.on_sphere,
                found.uncertainty,
                values,
            )
            if found.on_sphere:
                item.measured[PANORAMAS] = 1
            item.data = item.photo = item.prepared = item.inferred = None
        return item


def load_segmenter(package: ModelPackage, options: SegmentOptions) -> UnitSegmenter:
    """Load a model, from the output folder if this machine does not have it.

    Raises:
        PackageError: neither has it.
        EngineError: the engine asked for cannot run here.
    """
    with model_files.at_hand(package, options.output) as found:
        segmenter = Segmenter.load(
            found,
            options.engine,
            windows=options.masks.windows,
            confidence=names.CONFIDENCE in options.outputs,
        )
    return UnitSegmenter(package, segmenter, options)


def records_of(package: ModelPackage, options: SegmentOptions) -> begun.Records:
    """Where a run puts on record what it begins."""
    model = options.masks.model_id(package)
    return begun.Records(options.output, options.run_id, model, options.durable, options.owner)


def _each_of(batches: Iterable[Sequence[_Item] | Pause]) -> Iterator[_Item | Pause]:
    for batch in batches:
        if isinstance(batch, Pause):
            yield batch
        else:
            yield from batch
