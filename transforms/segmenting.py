"""Segmenting: from work units to masks and committed rows, everything inside one DoFn.

Reading and writing have many threads, which wait for storage. What works has a thread for each
core and two to spare. Where the network takes one photo at a time, as on a CPU, each of these
threads takes a photo from its bytes to its files: no core waits for another one. Where it takes
batches, as on a GPU, they decode ahead and encode behind. Pixels never leave the DoFn, and the
depths of the queues bound the memory.
"""

import logging
import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import chain

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

from models.engines import (
    AUTOMATIC,
    Engine,
    EngineError,
    EngineOptions,
    Mask,
    MaskEngine,
    load_engine,
)
from models.engines.devices import cores
from models.inputs import network_shape
from models.merging import MergedClasses
from models.packages import ModelPackage
from models.panoramas import OnSphere, margin_of, measure_on_sphere, with_margin
from models.tiling import segment_windows
from models.upsampling import load_loops, logits_to_confidence, logits_to_mask
from transforms import (
    locking,
    masks,
    model_files,
    names,
    photos,
    planning,
    progress,
    projections,
    requests,
    rows,
    shards,
    stopping,
    storage,
)
from transforms.columns import COMMIT, DECODE, ENCODE, INFER, READ, SKY, UPSAMPLE, WRITE
from transforms.concurrency import REQUESTS, Pause, map_ahead
from transforms.records import (
    Confidence,
    Container,
    Failure,
    ImageRef,
    Segmented,
    UnitResult,
    WorkUnit,
)

logger = logging.getLogger("citymask")

COUNTERS = "citymask.segmenting"
"""Namespace of the Beam metrics of this step: the counters and distributions named below."""

PIXELS = "citymask.pixels"
"""Namespace of the counters of pixels, a counter per class name."""

DONE = "done"
FAILED = "failed"
LEFT = "left"
PANORAMAS = "panoramas"
CONTRADICTIONS = "contradictions"
"""Photos that are said to be panoramas and are none; see `projections.recognise`."""

BYTES_IN = "bytes_in"
BYTES_OUT = "bytes_out"
BATCH_SIZE = "batch_size"
MICROSECONDS = "_microseconds"
"""Ending of the distributions of time: per image, for infer per batch, for commit per unit."""

SPARE_THREADS = 2
"""So many more threads work than there are cores: while one waits for the network or for Python's
lock, another one uses its core."""

AHEAD = 4
"""Photos that wait for each thread, as bytes, or have their files ready to be written."""

WINDOWED_PHOTOS = 2
"""Photos that are in memory in full at a time, where they are segmented in windows: they may be
large, and the windows of one keep the machine busy while the other is decoded."""

MOST_UNITS = 2
"""So many units have begun at a time, and are finished when a run is asked to stop."""

TELL_SECONDS = 0.1
"""Between two reports of progress: one for each photo would cost 1 % of the time."""

LOOK_SECONDS = 5.0
"""Between two looks into a remote output folder, whether the run must stop."""

Measure = Callable[[str, float], None]


@dataclass(frozen=True)
class SegmentOptions:
    """Where and how images are segmented.

    Attributes:
        output: the output folder.
        run_id: the run whose rows these are.
        overlay: whether to write a blended JPEG beside each mask.
        confidence: whether to write a confidence image beside each mask, and means into its row.
        max_pixels: larger photos are refused.
        projection: how photos are taken; left open, as metadata and files say.
        merged: what to merge the classes to besides.
        engine: how the network is run, and with how many threads.
    """

    output: str
    run_id: str
    overlay: bool = False
    confidence: bool = False
    max_pixels: int = photos.DEFAULT_MAX_PIXELS
    projection: projections.Projection = projections.Projection.AUTO
    merged: MergedClasses | None = None
    engine: EngineOptions = AUTOMATIC


@dataclass
class _Item:
    """An image of a unit on its way through the stages, and how it ended."""

    unit: WorkUnit
    ref: ImageRef
    data: bytes | None = None
    photo: photos.Photo | None = None
    logits: np.ndarray | None = None
    mask: Mask | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    outcome: Segmented | Failure | None = None
    measured: dict[str, float] = field(default_factory=dict)
    _stage: str = READ

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Whatever goes wrong inside is the failure of this image alone."""
        try:
            yield
        except Exception as error:
            self.fail(self._stage, error)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Name and time what happens inside."""
        self._stage = name
        start = time.perf_counter()
        yield
        self.measured[name + MICROSECONDS] = (time.perf_counter() - start) * 1e6

    def fail(self, stage: str, error: Exception) -> None:
        """End as a failure in `stage`."""
        message = names.printable(str(error)) or "no further message"
        self.outcome = Failure(self.ref, stage, type(error).__name__, message)
        self.let_go()

    def let_go(self) -> None:
        """Free the memory of what is needed no more."""
        self.data = self.photo = self.logits = self.mask = None
        self.files = {}


class UnitSegmenter:
    """Segments units with one model, on any runner or without one.

    Args:
        package: the model.
        engine: the model made ready to run.
        options: where and how.
    """

    def __init__(self, package: ModelPackage, engine: Engine, options: SegmentOptions):
        self._package = package
        self._engine = engine
        self._options = options
        self._shape_for = partial(
            network_shape, input_width=package.input_width, input_height=package.input_height
        )
        if package.windows:
            self._shape_for = partial(_scaled, scale=package.windows)
        keys = package.classes.keys
        self._sky = keys.index(SKY) if SKY in keys else None
        self._mask_values = np.array(package.mask_values, np.uint8)
        self._reading = ThreadPoolExecutor(REQUESTS, "read")
        threads = options.engine.threads or cores()
        self._alone = bool(package.windows) or (
            engine.batch_size == 1 and engine.streams >= threads
        )
        self._threads = WINDOWED_PHOTOS if package.windows else threads + SPARE_THREADS
        self._working = ThreadPoolExecutor(self._threads, "work")
        self._inferring = ThreadPoolExecutor(engine.streams, "infer")
        self._writing = ThreadPoolExecutor(REQUESTS, "write")

    def segment(self, unit: WorkUnit, measure: Measure) -> UnitResult:
        """Write the masks of a unit, then commit its rows; every image ends as a row of one kind.

        Args:
            unit: what to do.
            measure: called in this thread with the name and value of each measurement.

        Raises:
            StorageError: the rows cannot be written.
        """
        stream = UnitStream(self, measure)
        (result,) = chain(stream.add(unit), stream.finish())
        return result

    def work_on(self, items: Iterable[_Item | Pause]) -> Iterator[_Item | Pause]:
        """Bring images from their reference to their files, in the order in which they end."""
        data = map_ahead(self._reading, self._read, items, REQUESTS)
        encoded = self._each_alone(data) if self._alone else self._in_batches(data)
        return map_ahead(self._writing, self._write, encoded, REQUESTS)

    def commit(self, unit: WorkUnit, items: Iterable[_Item]) -> UnitResult:
        """Write the rows of a unit whose images have ended; raises StorageError."""
        outcomes = {item.ref: item.outcome for item in items}
        ordered = [outcomes[ref] for ref in unit.refs]
        result = UnitResult(
            unit.unit_id,
            tuple(outcome for outcome in ordered if isinstance(outcome, Segmented)),
            tuple(outcome for outcome in ordered if isinstance(outcome, Failure)),
        )
        rows.commit(
            self._options.output,
            result,
            self._package.classes,
            self._package.model_id,
            self._options.run_id,
            self._options.merged,
        )
        return result

    def _read(self, item: _Item) -> _Item:
        with item.isolated(), item.stage(READ):
            item.data = read_image(item.ref, item.ref.version)
            item.measured[BYTES_IN] = len(item.data)
        return item

    def _decode(self, item: _Item) -> _Item:
        if item.data is None:
            return item
        with item.isolated():
            with item.stage(DECODE):
                claim = projections.claimed(self._options.projection, item.ref.extra)
                item.photo = self._with_margin(
                    photos.decode_photo(item.data, self._shape_for, self._options.max_pixels, claim)
                )
                if item.photo.contradiction:
                    item.measured[CONTRADICTIONS] = 1
                    logger.debug("%s: flat, %s", item.ref.uri, item.photo.contradiction)
            if not self._options.overlay:
                item.data = None
        return item

    def _with_margin(self, photo: photos.Photo) -> photos.Photo:
        """The photo with what its network has to see beyond the edges, if it goes all around."""
        if not photo.panorama or not photo.panorama.is_closed:
            return photo
        seen = self._package.input_width if self._package.windows else photo.pixels.shape[1]
        margin = margin_of(seen)
        return replace(photo, pixels=with_margin(photo.pixels, margin), margin=margin)

    def _each_alone(self, items: Iterable[_Item | Pause]) -> Iterator[_Item | Pause]:
        """Take each image through all that works in one thread."""

        def work(item: _Item) -> _Item:
            (item,) = self._predict([self._decode(item)])
            return self._encode(item)

        return map_ahead(self._working, work, items, AHEAD * self._threads)

    def _in_batches(self, items: Iterable[_Item | Pause]) -> Iterator[_Item | Pause]:
        """Decode ahead of the network and encode behind it."""
        depth = 2 * self._engine.batch_size
        decoded = map_ahead(self._working, self._decode, items, depth)
        batches = map_ahead(
            self._inferring, self._predict, self._gather(decoded), self._engine.streams
        )
        return map_ahead(self._working, self._encode, _each_of(batches), depth)

    def _gather(self, items: Iterable[_Item | Pause]) -> Iterator[Sequence[_Item] | Pause]:
        """Batches of images of equal network shape and margin; one that has failed is by itself.

        An image waits for others of its shape until the unit after its own has come by.
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
            if item.photo is None:
                yield [item]
                continue
            shape = *item.photo.pixels.shape, item.photo.margin
            waiting[shape].append(item)
            if len(waiting[shape]) >= self._engine.batch_size:
                yield waiting.pop(shape)
        yield from waiting.values()

    def _predict(self, batch: Sequence[_Item]) -> Sequence[_Item]:
        """Give each image its mask or, where the engine makes none, its logits."""
        photos_of = [(item, item.photo) for item in batch if item.photo]
        if not photos_of:
            return batch
        start = time.perf_counter()
        try:
            if self._package.windows:
                self._slide_windows(photos_of)
            else:
                self._run_network(photos_of)
        except Exception as error:
            if len(batch) == 1:
                batch[0].fail(INFER, error)
                return batch
            # What one image may have caused must not cost its neighbours.
            return [item for one in batch for item in self._predict([one])]
        batch[0].measured[INFER + MICROSECONDS] = (time.perf_counter() - start) * 1e6
        batch[0].measured[BATCH_SIZE] = len(batch)
        for item in batch:
            if item.mask is None and item.logits is None:
                item.fail(INFER, ValueError("the network's output is not finite (NaN or infinity)"))
        return batch

    def _run_network(self, batch: Sequence[tuple[_Item, photos.Photo]]) -> None:
        """Run the network; a batch that is not full is padded to a power of two, so that there are
        few sizes.
        """
        padded = max(len(batch), min(self._engine.batch_size, 1 << (len(batch) - 1).bit_length()))
        images = np.zeros((padded, *batch[0][1].pixels.shape), np.uint8)
        for position, (_, photo) in enumerate(batch):
            images[position] = photo.pixels
        if isinstance(self._engine, MaskEngine) and not self._options.confidence:
            sizes = [(photo.height, photo.width) for _, photo in batch]
            margin = batch[0][1].margin
            for (item, _), mask in zip(
                batch, self._engine.predict_masks(images, sizes, margin), strict=True
            ):
                item.mask = mask
        else:
            logits = self._engine.predict(images)[: len(batch)]
            for (item, _), of_item in zip(batch, logits, strict=True):
                item.logits = of_item if np.isfinite(of_item).all() else None

    def _slide_windows(self, batch: Sequence[tuple[_Item, photos.Photo]]) -> None:
        """Run the network on each photo window by window, as many at once as the engine takes."""
        for item, photo in batch:
            item.mask = segment_windows(
                photo.pixels,
                self._engine.predict,
                self._package.nominal_shape,
                photo.height,
                photo.width,
                max(self._engine.batch_size, self._engine.streams),
                photo.margin,
            )

    def _encode(self, item: _Item) -> _Item:
        """Make the files of an image: its mask, and beside it what was asked for."""
        photo, ref = item.photo, item.ref
        if photo is None:
            return item
        palette = self._package.palette
        with item.isolated():
            with item.stage(UPSAMPLE):
                mask, counts = _mask_of(item.mask, item.logits, photo)
                pixels = tuple(counts.tolist())
                on_sphere = self._on_sphere(mask, photo)
                confidence = None
                if self._options.confidence and item.logits is not None:
                    margin = _margin_of_logits(item.logits, photo)
                    grey, sums = logits_to_confidence(item.logits, mask, margin)
                    confidence = Confidence.of(sums.tolist(), pixels)
            with item.stage(ENCODE):
                if self._package.label_ids:
                    mask = self._mask_values[mask]
                if item.data is not None:
                    original = photos.decode_full(item.data, self._options.max_pixels)
                    overlay = masks.encode_overlay(original, mask, palette)
                    item.files[names.overlay_path(ref.mask)] = overlay
                if confidence:
                    item.files[names.confidence_path(ref.mask)] = masks.encode_grey(grey)
                # The mask comes last: should the others fail, an older one keeps fitting its row.
                item.files[ref.mask] = masks.encode_mask(mask, palette)
            capture = ref.capture.filled_from(photo.capture)
            item.outcome = Segmented(
                ref, photo.width, photo.height, capture, pixels, confidence, on_sphere
            )
            if on_sphere:
                item.measured[PANORAMAS] = 1
            item.data = item.photo = item.logits = item.mask = None
        return item

    def _on_sphere(self, mask: np.ndarray, photo: photos.Photo) -> OnSphere | None:
        if photo.panorama is None:
            return None
        return measure_on_sphere(mask, photo.panorama, len(self._package.classes), self._sky)

    def _write(self, item: _Item) -> _Item:
        if not item.files:
            return item
        with item.isolated(), item.stage(WRITE):
            for path, data in item.files.items():
                storage.write(self._options.output, path, data)
                item.measured[BYTES_OUT] = item.measured.get(BYTES_OUT, 0) + len(data)
        item.let_go()
        return item


class UnitStream:
    """Units one after the other through the threads of a segmenter, which never run dry between.

    Args:
        segmenter: what segments them.
        measure: called in the caller's thread with the name and value of each measurement.

    Attributes:
        open_units: units that were added and have not ended.
    """

    def __init__(self, segmenter: UnitSegmenter, measure: Measure):
        self._segmenter = segmenter
        self._measure = measure
        self._queue: deque[_Item] = deque()
        self._closed = False
        self.open_units = 0
        self._ended: dict[str, list[_Item]] = defaultdict(list)
        self._untold: Counter[str] = Counter()
        self._told = -math.inf
        self._items = segmenter.work_on(self._feed())

    def add(self, unit: WorkUnit) -> Iterator[UnitResult]:
        """Give it a unit; the results of those that have ended meanwhile, mostly earlier ones.

        Raises:
            StorageError: the rows of a unit cannot be written.
        """
        self.open_units += 1
        self._queue.extend(_Item(unit, ref) for ref in unit.refs)
        return self._results()

    def finish(self) -> Iterator[UnitResult]:
        """The results of all units that are left; raises what `add` raises."""
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
            if len(of_unit) == len(item.unit.refs):
                start = time.perf_counter()
                result = self._segmenter.commit(item.unit, self._ended.pop(item.unit.unit_id))
                self._measure(COMMIT + MICROSECONDS, (time.perf_counter() - start) * 1e6)
                self.open_units -= 1
                yield result
        self._tell()

    def _tell(self) -> None:
        """Report how many images have ended since the last time."""
        progress.report(**self._untold)
        self._untold.clear()
        self._told = time.monotonic()


def _each_of(batches: Iterable[Sequence[_Item] | Pause]) -> Iterator[_Item | Pause]:
    for batch in batches:
        if isinstance(batch, Pause):
            yield batch
        else:
            yield from batch


def _scaled(width: int, height: int, scale: float) -> tuple[int, int]:
    """The shape `(height, width)` of a photo at `scale` times its resolution."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def _mask_of(mask: Mask | None, logits: np.ndarray | None, photo: photos.Photo) -> Mask:
    """The mask of a photo: the engine's own, else out of its logits."""
    if mask is not None:
        return mask
    assert logits is not None, "an image without an answer has failed before"
    margin = _margin_of_logits(logits, photo)
    return logits_to_mask(logits, photo.height, photo.width, margin)


def _margin_of_logits(logits: np.ndarray, photo: photos.Photo) -> int:
    """The margin of a photo, in columns of its logits."""
    return photo.margin * logits.shape[1] // photo.pixels.shape[1]


def read_image(ref: ImageRef, version: str = "") -> bytes:
    """The encoded bytes of an image, out of its file or by its byte range in a shard.

    Args:
        ref: the image.
        version: of which its file has to be, as it was listed; empty: of any.

    Raises:
        StorageError: the file cannot be read, is of another version or cut short.
        ShardError: the member is damaged.
    """
    if ref.damage:
        raise shards.ShardError(ref.damage)
    if ref.container is Container.TFRECORD:
        data = storage.read(ref.path, ref.offset, ref.length, version)
        return shards.read_tfrecord_image(data, ref.offset)
    return storage.read(ref.path, ref.offset, ref.length, version)


@dataclass
class SegmentArchive(beam.PTransform):
    """Segments images: PCollection[ImageRef] -> PCollection[UnitResult].

    Images are grouped into work units; each unit's masks are written first, then its rows. Only
    descriptors and counts are shuffled, never pixels.

    Attributes:
        package: the model.
        options: where and how.
        unit_size: most images in a work unit.
        max_images: most images that are looked at; None: all. The others are left.
        hints: Beam's resource hints for the step that runs the network.
    """

    package: ModelPackage
    options: SegmentOptions
    unit_size: int = planning.DEFAULT_UNIT_SIZE
    max_images: int | None = None
    hints: Mapping[str, str] = field(default_factory=dict)

    def expand(self, refs: beam.PCollection[ImageRef]) -> beam.PCollection[UnitResult]:
        model = self.package.model_id
        units = refs | "GroupIntoUnits" >> planning.GroupIntoUnits(model, self.unit_size)
        beyond = []
        if self.max_images is not None:
            limited = units | "TakeImages" >> planning.TakeImages(model, self.max_images)
            units, beyond = limited[planning.TAKEN], [limited[planning.BEYOND]]
        segment = beam.ParDo(SegmentUnit(self.package, self.options))
        results = (
            units
            | "SpreadUnits" >> beam.Reshuffle()
            | "SegmentUnit" >> segment.with_resource_hints(**self.hints)
        )
        return (results, *beyond) | "Results" >> beam.Flatten()


class SegmentUnit(beam.DoFn):
    """Segments work units; model and threads are shared by the whole process.

    While the last photos of a unit are on their way, the next unit begins: the result of a unit
    mostly comes with a later one, at the latest with the end of the bundle.
    """

    def __init__(self, package: ModelPackage, options: SegmentOptions):
        self._package = package
        self._options = options
        self._shared = Shared()
        self._segmenter: UnitSegmenter | None = None
        self._stream: UnitStream | None = None
        self._looked = -math.inf

    def start_bundle(self) -> None:
        self._stream = None  # One of a bundle that failed is not gone on with.

    def process(self, unit: WorkUnit) -> Iterator[UnitResult]:
        if self._stream and self._stream.open_units == MOST_UNITS:
            yield from self._counted(self._stream.finish())
            self._stream = None
        if self._must_stop():
            _measure(LEFT, len(unit.refs))
            yield UnitResult(unit.unit_id, (), (), left=unit.refs)
            return
        if self._segmenter is None:  # Not in setup: a run without work loads no model.
            self._segmenter = self._shared.acquire(self._load)
        if self._stream is None:
            self._stream = UnitStream(self._segmenter, _measure)
        yield from self._counted(self._stream.add(unit))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._stream:
            for result in self._counted(self._stream.finish()):
                yield GlobalWindows.windowed_value(result)

    def _counted(self, results: Iterable[UnitResult]) -> Iterator[UnitResult]:
        for result in results:
            for number, name in enumerate(self._package.classes.names):
                pixels = sum(item.pixels[number] for item in result.segmented)
                Metrics.counter(PIXELS, name).inc(pixels)
            yield result
        requests.report()

    def _must_stop(self) -> bool:
        """A remote folder is not asked before every unit: the answer may be some seconds old."""
        now = time.monotonic()
        if storage.is_remote(self._options.output) and now - self._looked < LOOK_SECONDS:
            return False
        self._looked = now
        return must_stop(self._options)

    def _load(self) -> UnitSegmenter:
        try:
            load_loops()
        except RuntimeError as error:
            raise EngineError(
                f"what Numba compiles cannot be kept ({error}): set NUMBA_CACHE_DIR to a folder "
                "that can be written"
            ) from error
        with model_files.at_hand(self._package, self._options.output) as package:
            engine = load_engine(package, self._options.engine)
            return UnitSegmenter(package, engine, self._options)


def must_stop(options: SegmentOptions) -> bool:
    """Whether the run was asked to stop, or has died and another one has its output folder."""
    owner = locking.holder(options.output)
    taken_over = owner is not None and owner.run_id != options.run_id
    return taken_over or stopping.reason(options.output) is not None


def _measure(name: str, value: float) -> None:
    _measuring(name)(round(value))


@cache
def _measuring(name: str) -> Callable[[int], None]:
    """What takes a value for the Beam metric of that name; making one costs more than using it."""
    if name == BATCH_SIZE or name.endswith(MICROSECONDS):
        return Metrics.distribution(COUNTERS, name).update
    return Metrics.counter(COUNTERS, name).inc
