"""The segmenter: from photos to masks, class counts, confidences and solid angles.

    segmenter = Segmenter.load("default")
    mask = segmenter.segment(image).mask

`segment` is all that a notebook needs. What feeds many photos calls the steps it is made of, since
these can overlap: `prepare`, `infer` for a batch of photos of one shape, and `finish`.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from models.classes import ClassTable
from models.engines import (
    AUTOMATIC,
    Engine,
    EngineError,
    EngineOptions,
    Mask,
    MaskEngine,
    Precision,
    load_engine,
)
from models.graphs import Gives, Resize
from models.inputs import SHAPE_MULTIPLE, InputSize, resize, resize_pixels
from models.meanings import SKY, meanings
from models.packages import Calibration, ModelPackage, load_package
from models.panoramas import (
    OnSphere,
    Panorama,
    closed_shape,
    margin_of,
    measure_on_sphere,
    with_margin,
)
from models.tiling import segment_windows
from models.uncertainty import Uncertainty, grid_step, mean_entropy
from models.upsampling import ids_to_mask, load_loops, logits_to_confidence, logits_to_mask


@dataclass(frozen=True, eq=False)
class NetworkInput:
    """A photo at the size that the network takes.

    Attributes:
        pixels: uint8 RGB of shape `(h, w, 3)`.
        width: columns of the photo, and of its mask.
        height: rows of the photo, and of its mask.
        panorama: what an equirectangular photo shows of the sphere; None for a flat photo.
    """

    pixels: np.ndarray
    width: int
    height: int
    panorama: Panorama | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network input with what the network has to see beyond its edges.

    Attributes:
        photo: the photo, whose own `pixels` are without margin and padding.
        pixels: uint8 RGB of shape `(h, w, 3)`: the photo between its margins, at the top and the
            left of what is padded.
        margin: columns on either side that repeat the other side of a closed panorama.
        content: rows and columns of the photo within `pixels`.
    """

    photo: NetworkInput
    pixels: np.ndarray
    margin: int
    content: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """What photos of one batch have in common."""
        return (*self.pixels.shape, self.margin)

    @property
    def is_padded(self) -> bool:
        """Whether the network sees more than the photo and its margins."""
        rows, columns = self.content
        return self.pixels.shape[:2] != (rows, columns + 2 * self.margin)

    def covered(self, scores: np.ndarray) -> tuple[np.ndarray, int, tuple[float, float]]:
        """The network's output without cells that are all padding; margin and extent of the photo.

        See `logits_to_mask`.
        """
        rows, columns = scores.shape[:2]
        height, width = self.pixels.shape[:2]
        down, across = self.content[0] * rows / height, self.content[1] * columns / width
        margin = self.margin * columns // width
        if margin:
            across = round(across)  # A circle is of whole cells.
        shown = scores[: math.ceil(down), : math.ceil(across) + 2 * margin]
        return shown, margin, (down, across)


@dataclass(frozen=True, eq=False)
class Inferred:
    """What the network says of a photo: its mask, or scores to make one of.

    Attributes:
        prepared: the photo.
        mask: mask and class counts, from an engine that makes them or from windows.
        grid: logits of a grid of cells, from an engine that makes masks, see `DeviceMask`.
        scores: logits, float32 of shape `(h / stride, w / stride, classes)`, or class ids, uint8 of
            shape `(h / stride, w / stride)`.
    """

    prepared: Prepared
    mask: Mask | None = None
    grid: np.ndarray | None = None
    scores: np.ndarray | None = None


@dataclass(frozen=True)
class Confidence:
    """Mean probabilities of the chosen classes of an image's mask, 0..1.

    Attributes:
        mean: over all pixels.
        classes: over the pixels of each class, in the order of the class ids; None without any.
    """

    mean: float
    classes: tuple[float | None, ...]

    @classmethod
    def of(cls, sums: Sequence[float], pixels: Sequence[int]) -> "Confidence":
        """The means of probabilities that add up to `sums` over the `pixels` of each class."""
        means = (total / n if n else None for total, n in zip(sums, pixels, strict=True))
        return cls(sum(sums) / sum(pixels), tuple(means))


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A segmented photo.

    Attributes:
        mask: class ids, uint8 of shape `(height, width)`.
        pixels: pixels per class in the order of the class ids; they add up to height x width.
        confidence: mean confidences, if they were asked for.
        confidence_image: confidence of each pixel as `round(255 * p)`, uint8 of the mask's shape,
            if confidences were asked for.
        on_sphere: what the mask of a panorama covers of the sphere; None for a flat photo.
        uncertainty: how unsure the network is of the photo; None where that is not known.
    """

    mask: np.ndarray
    pixels: tuple[int, ...]
    confidence: Confidence | None = None
    confidence_image: np.ndarray | None = None
    on_sphere: OnSphere | None = None
    uncertainty: Uncertainty | None = None


class Segmenter:
    """A model that is ready to segment photos. Safe to use from several threads.

    Args:
        engine: runs the network.
        classes: what the network's outputs mean, in their order.
        size: of the network input.
        windows: segment in overlapping windows at this scale of each photo's own resolution; None:
            bring each photo to the size of the network input.
        confidence: whether to compute confidences, which excludes windows.
        calibration: of the network's probabilities, for confidences and uncertainties.

    Raises:
        ValueError: windows and confidence are both asked for, or windows of a network input that is
            too small for them.
    """

    def __init__(
        self,
        engine: Engine,
        classes: ClassTable,
        size: InputSize,
        windows: float | None = None,
        confidence: bool = False,
        calibration: Calibration | None = None,
    ):
        if windows and confidence:
            raise ValueError("windows and confidence exclude each other")
        if windows:
            check_windows(size)
        self.windows = windows
        self._engine = engine
        self._classes = classes
        self._size = size
        # Whole multiples, as windows start at such.
        height, width = (side // SHAPE_MULTIPLE * SHAPE_MULTIPLE for side in size.nominal_shape)
        self._window = height, width
        self._confidence = confidence
        self._calibration = calibration
        self._temperature = calibration.temperature if calibration else 1.0
        self._sky = [at for at, meaning in enumerate(meanings(classes)) if meaning == SKY]

    @classmethod
    def load(
        cls,
        model: str | Path | ModelPackage = "default",
        options: EngineOptions = AUTOMATIC,
        windows: float | None = None,
        confidence: bool = False,
    ) -> "Segmenter":
        """Load a model and make it ready to run on this machine.

        Args:
            model: name of a shipped model, folder of a model package, or a package.
            options: engine, precision, batch size and threads.
            windows, confidence: see the class.

        Raises:
            PackageError: the model is unknown, incomplete or damaged.
            EngineError: the engine asked for cannot run here.
            ValueError: as for the class; or confidence is asked for of a network that gives none.
        """
        package = model if isinstance(model, ModelPackage) else load_package(model)
        if confidence:
            check_confidence(package)
        with ThreadPoolExecutor(1) as pool:  # The two take about as long.
            loops = pool.submit(load_loops)
            engine = load_engine(package, options)
        try:
            loops.result()
        except RuntimeError as error:
            raise EngineError(
                f"what Numba compiles cannot be kept ({error}): set NUMBA_CACHE_DIR to a folder "
                "that can be written"
            ) from error
        return cls(
            engine, package.classes, package.input_size, windows, confidence, package.calibration
        )

    @property
    def batch_size(self) -> int:
        """Photos to give to `infer` at once; fewer once memory has run out."""
        return self._engine.batch_size

    @property
    def streams(self) -> int:
        """Calls of `infer` to have running side by side."""
        return self._engine.streams

    @property
    def precision(self) -> Precision:
        """Precision that the network computes in, never `AUTO`."""
        return self._engine.precision

    def segment(
        self, image: Image.Image | np.ndarray, panorama: Panorama | None = None
    ) -> Segmentation:
        """Segment a photo.

        Args:
            image: a Pillow image, which is turned upright by its EXIF orientation, or uint8 RGB
                pixels of shape `(height, width, 3)`.
            panorama: what an equirectangular photo shows of the sphere; None for a flat photo.

        Raises:
            ValueError: the network's output is not finite.
            EngineError: memory does not suffice for one photo.
        """
        return self.segment_input(self.resize(image, panorama))

    def resize(
        self, image: Image.Image | np.ndarray, panorama: Panorama | None = None
    ) -> NetworkInput:
        """Bring a photo, as `segment` takes it, to the size that the network takes."""
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        image = ImageOps.exif_transpose(image).convert("RGB")
        shape = self.shape_for(image.width, image.height)
        if panorama and panorama.is_closed:
            shape = closed_shape(shape)
        return NetworkInput(resize(image, shape), image.width, image.height, panorama)

    def segment_input(self, photo: NetworkInput) -> Segmentation:
        """Segment a photo at the network's size; raises what `segment` raises."""
        (answer,) = self.infer([self.prepare(photo)])
        if isinstance(answer, ValueError):
            raise answer
        return self.finish(answer)

    def shape_for(self, width: int, height: int) -> tuple[int, int]:
        """The shape `(h, w)` to which a photo of `width` x `height` pixels is resized."""
        if self.windows:
            return max(1, round(height * self.windows)), max(1, round(width * self.windows))
        return self._size.photo_shape(width, height)

    def prepare(self, photo: NetworkInput) -> Prepared:
        """Give a closed panorama the margins that its network has to see, and pad the photo."""
        pixels, margin = photo.pixels, 0
        if photo.panorama and photo.panorama.is_closed:
            pixels, margin = self._with_margins(pixels)
        content = pixels.shape[0], pixels.shape[1] - 2 * margin
        return Prepared(photo, pixels if self.windows else self._size.pad(pixels), margin, content)

    def _with_margins(self, pixels: np.ndarray) -> tuple[np.ndarray, int]:
        """A closed panorama between its margins, and their columns."""
        if self.windows or not self._size.is_single:
            margin = margin_of(self._size.width if self.windows else pixels.shape[1])
        else:
            rows, columns, _ = pixels.shape
            width = self._size.nominal_shape[1]  # The margins have to be among its columns.
            margin = SHAPE_MULTIPLE if width >= 4 * SHAPE_MULTIPLE else 0
            inside = width - 2 * margin
            if self._size.resize is Resize.PAD:
                inside = min(columns, inside)
                rows = max(1, round(rows * inside / columns))
            pixels = resize_pixels(pixels, (rows, inside))
        return with_margin(pixels, margin), margin

    def infer(self, batch: Sequence[Prepared]) -> list[Inferred | ValueError]:
        """Run the network on photos of one `Prepared.shape`; with windows, of any shapes.

        Returns:
            For each photo its mask or logits, or the error that they are not finite.

        Raises:
            EngineError: memory does not suffice for one photo.
        """
        if self.windows:
            return [self._slide_windows(prepared) for prepared in batch]
        # A batch that is not full is padded to a power of two, so that there are few sizes.
        padded = max(len(batch), min(self.batch_size, 1 << (len(batch) - 1).bit_length()))
        images = np.zeros((padded, *batch[0].pixels.shape), np.uint8)
        for image, prepared in zip(images, batch, strict=False):
            image[:] = prepared.pixels
        padded_photos = any(prepared.is_padded for prepared in batch)
        if isinstance(self._engine, MaskEngine) and not self._confidence and not padded_photos:
            sizes = [(prepared.photo.height, prepared.photo.width) for prepared in batch]
            masks = self._engine.predict_masks(images, sizes, batch[0].margin)
            return [
                Inferred(prepared, (made.mask, made.counts), made.grid) if made else _not_finite()
                for prepared, made in zip(batch, masks, strict=True)
            ]
        scores = self._engine.predict(images)[: len(batch)]
        return [
            Inferred(prepared, scores=of_photo) if np.isfinite(of_photo).all() else _not_finite()
            for prepared, of_photo in zip(batch, scores, strict=True)
        ]

    def finish(self, inferred: Inferred) -> Segmentation:
        """Make the mask of a photo at its own size, and what was asked for besides."""
        photo, scores = inferred.prepared.photo, inferred.scores
        confidence = image = on_sphere = uncertainty = None
        grid = inferred.grid
        if inferred.mask:
            mask, counts = inferred.mask
        else:
            assert scores is not None, "a photo without an answer is an error"
            scores, margin, extent = inferred.prepared.covered(scores)
            size = photo.height, photo.width
            if scores.ndim == 2:
                mask, counts = ids_to_mask(scores, len(self._classes), *size, margin, extent)
            else:
                mask, counts = logits_to_mask(scores, *size, margin, extent)
                step = grid_step(*scores.shape[:2])
                grid = scores[::step, ::step]
        pixels = tuple(counts.tolist())
        if self._confidence and scores is not None:
            image, sums = logits_to_confidence(scores, mask, margin, extent, self._temperature)
            confidence = Confidence.of(sums.tolist(), pixels)
        if photo.panorama:
            on_sphere = measure_on_sphere(mask, photo.panorama, len(self._classes), self._sky)
        if self._calibration and grid is not None:
            entropy = mean_entropy(grid, self._temperature)
            uncertainty = Uncertainty(entropy, entropy > self._calibration.unlike_above)
        return Segmentation(mask, pixels, confidence, image, on_sphere, uncertainty)

    def _predict_window(self, windows: np.ndarray) -> np.ndarray:
        """Logits of windows; class ids count as a logit of 1 for their class, 0 for the others."""
        missing = [(0, a - b) for a, b in zip(self._size.nominal_shape, self._window, strict=True)]
        scores = self._engine.predict(np.pad(windows, [(0, 0), *missing, (0, 0)], "edge"))
        if scores.ndim == 3:
            scores = np.eye(len(self._classes), dtype=np.float32)[scores]
        side, cells = self._size.nominal_shape[0], scores.shape[1]
        stride = 1 << max(0, round(math.log2(side / cells)))
        if abs(cells - side / stride) > 1:
            raise ValueError(
                f"a network that gives {cells} rows for {side} is not run in windows: expected "
                f"{side} by a power of two"
            )
        rows, columns = (side // stride for side in self._window)
        return scores[:, :rows, :columns]

    def _slide_windows(self, prepared: Prepared) -> Inferred | ValueError:
        """Run the network window by window, as many at once as the engine takes."""
        try:
            mask = segment_windows(
                prepared.pixels,
                self._predict_window,
                self._window,
                prepared.photo.height,
                prepared.photo.width,
                max(self.batch_size, self.streams),
                prepared.margin,
            )
        except ValueError as error:
            return error
        return Inferred(prepared, mask=mask)


def check_windows(size: InputSize) -> None:
    """Raise ValueError if a network input is too small for windows."""
    height, width = size.nominal_shape
    if min(height, width) < SHAPE_MULTIPLE:
        raise ValueError(
            f"found a network input of {width}x{height} pixels, windows need at least "
            f"{SHAPE_MULTIPLE}x{SHAPE_MULTIPLE}: leave them out"
        )


def check_confidence(package: ModelPackage) -> None:
    """Raise ValueError if a model gives no probabilities."""
    if package.graph and package.graph.output.gives is Gives.CLASS_IDS:
        raise ValueError(
            f"{package.name} gives class ids and no probabilities: leave confidences out, or "
            "import the network without its last step, the argmax"
        )


def _not_finite() -> ValueError:
    return ValueError("the network's output is not finite (NaN or infinity)")
