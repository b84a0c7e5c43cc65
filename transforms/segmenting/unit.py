"""Segmenting: from work units to masks and committed rows, everything inside one DoFn.

Reading and writing have many threads, which wait for storage. What works has a thread for each
core and two to spare. Where the network takes one photo at a time, as on a CPU, each of these
threads takes a photo from its bytes to its files: no core waits for another one. Where it takes
batches, as on a GPU, they decode ahead and encode behind. Pixels never leave the DoFn, and the
depths of the queues bound the memory.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from models.engines import (
    Engine,
    Mask,
    MaskEngine,
)
from models.engines.devices import cores
from models.inputs import network_shape
from models.packages import ModelPackage
from models.panoramas import OnSphere, margin_of, measure_on_sphere, with_margin
from models.tiling import segment_windows
from models.upsampling import logits_to_confidence, logits_to_mask
from transforms import storage
from transforms.flow.concurrency import REQUESTS, Pause, map_ahead
from transforms.flow.records import (
    Confidence,
    Failure,
    PlannedImage,
    Segmented,
    UnitResult,
    WorkUnit,
)
from transforms.inputs.reading import read_image
from transforms.output import names, rows
from transforms.output.columns import DECODE, ENCODE, INFER, READ, SKY, UPSAMPLE, WRITE
from transforms.photos import decoding, mask_files, projections
from transforms.segmenting.measurements import (
    BATCH_SIZE,
    BYTES_IN,
    BYTES_OUT,
    CONTRADICTIONS,
    MICROSECONDS,
    PANORAMAS,
)
from transforms.segmenting.options import SegmentOptions

logger = logging.getLogger(__name__)

SPARE_THREADS = 2
"""So many more threads work than there are cores: while one waits for the network or for Python's
lock, another one uses its core."""

AHEAD = 4
"""Photos that wait for each thread, as bytes, or have their files ready to be written."""

WINDOWED_PHOTOS = 2
"""Photos that are in memory in full at a time, where they are segmented in windows: they may be
large, and the windows of one keep the machine busy while the other is decoded."""


@dataclass
class _Item:
    """An image of a unit on its way through the stages, and how it ended."""

    unit: WorkUnit
    planned: PlannedImage
    data: bytes | None = None
    photo: decoding.Photo | None = None
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
        self.outcome = Failure(self.planned, stage, type(error).__name__, message)
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

    def work_on(self, items: Iterable[_Item | Pause]) -> Iterator[_Item | Pause]:
        """Bring images from their reference to their files, in the order in which they end."""
        data = map_ahead(self._reading, self._read, items, REQUESTS)
        encoded = self._each_alone(data) if self._alone else self._in_batches(data)
        return map_ahead(self._writing, self._write, encoded, REQUESTS)

    def commit(self, unit: WorkUnit, items: Iterable[_Item]) -> UnitResult:
        """Write the rows of a unit whose images have ended; raises StorageError."""
        outcomes = {item.planned: item.outcome for item in items}
        ordered = [outcomes[planned] for planned in unit.images]
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
            self._package.mask_values,
        )
        return result

    def _read(self, item: _Item) -> _Item:
        with item.isolated(), item.stage(READ):
            item.data = read_image(item.planned.ref, item.planned.ref.version)
            item.measured[BYTES_IN] = len(item.data)
        return item

    def _decode(self, item: _Item) -> _Item:
        if item.data is None:
            return item
        with item.isolated():
            with item.stage(DECODE):
                claim = projections.claimed(self._options.projection, item.planned.ref.extra)
                item.photo = self._with_margin(
                    decoding.decode_photo(
                        item.data, self._shape_for, self._options.max_pixels, claim
                    )
                )
                if item.photo.contradiction:
                    item.measured[CONTRADICTIONS] = 1
                    logger.debug("%s: flat, %s", item.planned.ref.uri, item.photo.contradiction)
            if not self._options.overlay:
                item.data = None
        return item

    def _with_margin(self, photo: decoding.Photo) -> decoding.Photo:
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

    def _run_network(self, batch: Sequence[tuple[_Item, decoding.Photo]]) -> None:
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

    def _slide_windows(self, batch: Sequence[tuple[_Item, decoding.Photo]]) -> None:
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
        photo, planned = item.photo, item.planned
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
                    original = decoding.decode_full(item.data, self._options.max_pixels)
                    overlay = mask_files.encode_overlay(original, mask, palette)
                    item.files[names.overlay_path(planned.mask)] = overlay
                if confidence:
                    item.files[names.confidence_path(planned.mask)] = mask_files.encode_grey(grey)
                # The mask comes last: should the others fail, an older one keeps fitting its row.
                item.files[planned.mask] = mask_files.encode_mask(mask, palette)
            capture = planned.ref.capture.filled_from(photo.capture)
            item.outcome = Segmented(
                planned, photo.width, photo.height, capture, pixels, confidence, on_sphere
            )
            if on_sphere:
                item.measured[PANORAMAS] = 1
            item.data = item.photo = item.logits = item.mask = None
        return item

    def _on_sphere(self, mask: np.ndarray, photo: decoding.Photo) -> OnSphere | None:
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


def _each_of(batches: Iterable[Sequence[_Item] | Pause]) -> Iterator[_Item | Pause]:
    for batch in batches:
        if isinstance(batch, Pause):
            yield batch
        else:
            yield from batch


def _scaled(width: int, height: int, scale: float) -> tuple[int, int]:
    """The shape `(height, width)` of a photo at `scale` times its resolution."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def _mask_of(mask: Mask | None, logits: np.ndarray | None, photo: decoding.Photo) -> Mask:
    """The mask of a photo: the engine's own, else out of its logits."""
    if mask is not None:
        return mask
    assert logits is not None, "an image without an answer has failed before"
    margin = _margin_of_logits(logits, photo)
    return logits_to_mask(logits, photo.height, photo.width, margin)


def _margin_of_logits(logits: np.ndarray, photo: decoding.Photo) -> int:
    """The margin of a photo, in columns of its logits."""
    return photo.margin * logits.shape[1] // photo.pixels.shape[1]
