"""The minimal program that makes the same masks: the same engine and codecs in a thread pool.

There are no Beam, work units, rows or summary, and masks are written in place. If the engine's
batch size is 1, each thread processes whole photos. Otherwise threads decode ahead and encode
behind, and the main thread fills batches.
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.arms import MASKS
from models.engines import Engine, Mask, MaskEngine, load_engine
from models.engines.devices import cores
from models.inputs import network_shape
from models.packages import ModelPackage, load_package
from models.upsampling import logits_to_mask
from transforms.photos.decoding import DEFAULT_MAX_PIXELS, Photo, decode_photo
from transforms.photos.mask_files import encode_mask
from transforms.segmenting.unit import SPARE_THREADS


def run(archive: Path, output: Path, model: str) -> None:
    package = load_package(model)
    engine = load_engine(package)
    masks = output / MASKS
    masks.mkdir(parents=True)
    loop = Loop(package, engine, masks)
    (loop.one_by_one if engine.batch_size == 1 else loop.in_batches)(sorted(archive.iterdir()))


@dataclass(frozen=True)
class Loop:
    """A loop over photos.

    Attributes:
        package: the model.
        engine: runs the model.
        folder: the folder for masks.
    """

    package: ModelPackage
    engine: Engine
    folder: Path

    def one_by_one(self, paths: Iterable[Path]) -> None:
        with ThreadPoolExecutor(cores() + SPARE_THREADS) as pool:
            for _ in pool.map(self._segment, paths):
                pass

    def in_batches(self, paths: Iterable[Path]) -> None:
        size = self.engine.batch_size
        waiting: dict[tuple[int, ...], list[tuple[Path, Photo]]] = defaultdict(list)
        decoding: deque[Future[tuple[Path, Photo]]] = deque()
        writing: deque[Future[None]] = deque()
        with ThreadPoolExecutor(cores()) as ahead, ThreadPoolExecutor(cores()) as behind:

            def infer(batch: list[tuple[Path, Photo]]) -> None:
                for (path, photo), answer in zip(batch, self._predict(batch), strict=True):
                    writing.append(behind.submit(self._write, path, photo, *answer))
                batch.clear()
                while len(writing) > 2 * size:
                    writing.popleft().result()

            def take(future: Future[tuple[Path, Photo]]) -> None:
                path, photo = future.result()
                batch = waiting[photo.pixels.shape]
                batch.append((path, photo))
                if len(batch) == size:
                    infer(batch)

            for path in paths:
                decoding.append(ahead.submit(self._decode, path))
                if len(decoding) > 2 * size:
                    take(decoding.popleft())
            while decoding:
                take(decoding.popleft())
            for batch in filter(None, waiting.values()):
                infer(batch)
            while writing:
                writing.popleft().result()

    def _segment(self, path: Path) -> None:
        _, photo = self._decode(path)
        logits = self.engine.predict(photo.pixels[None])[0]
        self._write(path, photo, logits, None)

    def _decode(self, path: Path) -> tuple[Path, Photo]:
        shape_for = partial(
            network_shape,
            input_width=self.package.input_width,
            input_height=self.package.input_height,
        )
        return path, decode_photo(path.read_bytes(), shape_for, DEFAULT_MAX_PIXELS)

    def _predict(
        self, batch: list[tuple[Path, Photo]]
    ) -> list[tuple[np.ndarray | None, Mask | None]]:
        """Return the logits of each photo or, from a `MaskEngine`, its mask."""
        images = np.zeros((self.engine.batch_size, *batch[0][1].pixels.shape), np.uint8)
        images[: len(batch)] = [photo.pixels for _, photo in batch]
        if isinstance(self.engine, MaskEngine):
            sizes = [(photo.height, photo.width) for _, photo in batch]
            return [(None, mask) for mask in self.engine.predict_masks(images, sizes)]
        return [(logits, None) for logits in self.engine.predict(images)[: len(batch)]]

    def _write(
        self, path: Path, photo: Photo, logits: np.ndarray | None, made: Mask | None
    ) -> None:
        mask, _ = made or logits_to_mask(logits, photo.height, photo.width)
        target = self.folder / f"{path.name}.png"
        target.write_bytes(encode_mask(mask, self.package.palette))
