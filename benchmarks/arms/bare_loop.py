"""The least that makes the same masks: the same engine and codecs in threads that are never idle.

There is no Beam, no work unit, no row, no summary, and masks are written in place. Where the engine
takes photos one by one, each thread takes a photo all the way. Else threads decode ahead and encode
behind, and this one fills batches.
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.arms import MASKS
from models.engines.devices import cores
from models.packages import load_package
from models.segmenter import Inferred, Prepared, Segmenter
from transforms.photos.decoding import DEFAULT_MAX_PIXELS, decode_photo
from transforms.photos.mask_files import encode_mask
from transforms.segmenting.unit import SPARE_THREADS


def run(archive: Path, output: Path, model: str) -> None:
    package = load_package(model)
    segmenter = Segmenter.load(package)
    masks = output / MASKS
    masks.mkdir(parents=True)
    loop = Loop(segmenter, package.classes.palette(), masks)
    (loop.one_by_one if segmenter.batch_size == 1 else loop.in_batches)(sorted(archive.iterdir()))


@dataclass(frozen=True)
class Loop:
    """A loop over photos.

    Attributes:
        segmenter: the model made ready to run.
        palette: of the masks.
        folder: where masks go.
    """

    segmenter: Segmenter
    palette: bytes
    folder: Path

    def one_by_one(self, paths: Iterable[Path]) -> None:
        with ThreadPoolExecutor(cores() + SPARE_THREADS) as pool:
            for _ in pool.map(self._segment, paths):
                pass

    def in_batches(self, paths: Iterable[Path]) -> None:
        size = self.segmenter.batch_size
        waiting: dict[tuple[int, ...], list[tuple[Path, Prepared]]] = defaultdict(list)
        decoding: deque[Future[tuple[Path, Prepared]]] = deque()
        writing: deque[Future[None]] = deque()
        with ThreadPoolExecutor(cores()) as ahead, ThreadPoolExecutor(cores()) as behind:

            def infer(batch: list[tuple[Path, Prepared]]) -> None:
                answers = self.segmenter.infer([prepared for _, prepared in batch])
                for (path, _), answer in zip(batch, answers, strict=True):
                    writing.append(behind.submit(self._write, path, answer))
                batch.clear()
                while len(writing) > 2 * size:
                    writing.popleft().result()

            def take(future: Future[tuple[Path, Prepared]]) -> None:
                path, prepared = future.result()
                batch = waiting[prepared.shape]
                batch.append((path, prepared))
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
        _, prepared = self._decode(path)
        (answer,) = self.segmenter.infer([prepared])
        self._write(path, answer)

    def _decode(self, path: Path) -> tuple[Path, Prepared]:
        photo = decode_photo(path.read_bytes(), self.segmenter.shape_for, DEFAULT_MAX_PIXELS)
        return path, self.segmenter.prepare(photo)

    def _write(self, path: Path, answer: Inferred | ValueError) -> None:
        if isinstance(answer, ValueError):
            raise answer
        mask = self.segmenter.finish(answer).mask
        (self.folder / f"{path.name}.png").write_bytes(encode_mask(mask, self.palette))
