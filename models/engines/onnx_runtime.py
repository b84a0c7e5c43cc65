"""ONNX Runtime: imported ONNX networks, on a CPU or on a GPU."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from models.engines import devices, onnx_steps
from models.engines.batches import CPU_BATCH_SIZE, MOST_ON_GPU, BatchedEngine
from models.engines.conversion import cache_folder
from models.engines.graph_arrays import GraphArrays
from models.engines.imported import precision_of
from models.engines.options import EngineError, EngineOptions, GpuPolicy, Precision
from models.engines.tiles import DeviceMask, Mask
from models.graphs import Gives
from models.packages import ModelPackage, PackageError
from models.texts import one_line
from models.uncertainty import grid_step

if TYPE_CHECKING:
    import onnxruntime

logger = logging.getLogger(__name__)

STREAMS_ON_GPU = 2
"""Two threads, so that one copies photos and fetches masks while the other's batch is computed."""

BAND_VALUES = 1 << 26
"""Most logits that are interpolated at once, over all classes: 256 MiB."""

ONLY_FATAL = 4
"""Level of ONNX Runtime's log. Errors are raised, so they are not printed as well."""

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
"""What ONNX Runtime calls the libraries that compute."""

LIBRARIES = {CUDA: "onnxruntime-gpu[cuda,cudnn]", TENSORRT: "tensorrt"}
"""Packages that bring what they load."""

Provider = tuple[str, Mapping[str, Any]]
"""The name of one, and settings."""


@dataclass(frozen=True)
class Device:
    """What ONNX Runtime computes on.

    Attributes:
        memory: its name of the device's memory, `cpu` or `cuda`.
        network: what computes the network; the first one as far as it can.
        steps: what computes the steps around it, in single precision.
        is_gpu: whether it computes a batch at once, rather than one photo per core.
    """

    memory: str = "cpu"
    network: tuple[Provider, ...] = ((CPU, {}),)
    steps: tuple[Provider, ...] = ((CPU, {}),)
    is_gpu: bool = False


ON_CPU = Device()


class OnnxRuntimeEngine(BatchedEngine):
    """Runs a network as it is; on a CPU one photo per core, each with one thread.

    Args:
        package: a model with an ONNX network.
        device: what to compute on.
        options: precision, batch size and threads.

    Raises:
        EngineError: ONNX Runtime cannot run the network, or not in that precision.
        PackageError: the network's file was changed.
    """

    def __init__(self, package: ModelPackage, device: Device, options: EngineOptions):
        self._network = _Network(package, device)
        self._arrays = GraphArrays(package)
        super().__init__(
            options.batch_size or (self._network.batch_size if device.is_gpu else CPU_BATCH_SIZE),
            STREAMS_ON_GPU if device.is_gpu else options.threads or devices.cores(),
            _precision(package, device, options),
        )
        alone = self._network.takes_one or not device.is_gpu
        self._threads = ThreadPoolExecutor(self.streams, "onnxruntime") if alone else None
        with _failures_told(package.name):
            self.predict(_blank(package, 1))

    def _predict(self, images: np.ndarray) -> np.ndarray:
        if self._threads is None or len(images) == 1:
            return self._run(images)
        return np.concatenate(list(self._threads.map(self._run, images[:, None])))

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self._arrays.fetch(self._network.run(self._arrays.feed(images)).numpy())


class OnnxRuntimeMaskEngine(BatchedEngine):
    """Runs a network that gives scores, and computes masks on its device.

    Args:
        package, device, options: see `OnnxRuntimeEngine`.

    Raises:
        EngineError, PackageError: see `OnnxRuntimeEngine`.
    """

    def __init__(self, package: ModelPackage, device: Device, options: EngineOptions):
        start = time.perf_counter()
        self._network = network = _Network(package, device)
        self._to_input, self._to_logits, self._to_grid, self._to_mask = (
            _Step(content, device.steps, device.memory, package.name)
            for content in (
                onnx_steps.photos_to_input(package),
                onnx_steps.output_to_logits(network.graph, network.output_type),
                onnx_steps.logits_to_grid(),
                onnx_steps.logits_to_mask(),
            )
        )
        super().__init__(
            options.batch_size or network.batch_size,
            STREAMS_ON_GPU,
            _precision(package, device, options),
        )
        with _failures_told(package.name):
            images = _blank(package, self.batch_size)
            self.predict_masks(images, [package.nominal_shape] * len(images))
        logger.info(
            "%s: %s, batches of %d photos, ready after %.0f s",
            device.network[0][0], self.precision.value, self.batch_size,
            time.perf_counter() - start,
        )  # fmt: skip

    def predict_masks(
        self, images: np.ndarray, sizes: Sequence[tuple[int, int]], margin: int = 0
    ) -> list[DeviceMask | None]:
        """See `MaskEngine.predict_masks`."""
        parts = self._batches.run(
            len(images), lambda part: self._predict_masks(images[part], sizes[part], margin)
        )
        return list(chain.from_iterable(parts))

    def _predict(self, images: np.ndarray) -> np.ndarray:
        parts = [logits.numpy().transpose(0, 2, 3, 1) for logits, _ in self._logits(images)]
        return np.concatenate(parts)

    def _predict_masks(
        self, images: np.ndarray, sizes: Sequence[tuple[int, int]], margin: int
    ) -> list[DeviceMask | None]:
        if not sizes:
            return []
        masks: list[DeviceMask | None] = []
        for logits, finite in self._logits(images):
            columns = margin * logits.shape()[3] // images.shape[2]
            grids = self._grids(logits)
            for photo, is_finite in enumerate(np.isfinite(finite.numpy())):
                if len(masks) < len(sizes):
                    made = None
                    if is_finite:
                        made = DeviceMask(
                            *self._mask(logits, photo, *sizes[len(masks)], columns), grids[photo]
                        )
                    masks.append(made)
        return masks

    def _grids(self, logits: "onnxruntime.OrtValue") -> np.ndarray:
        """The logits of a grid of cells of each photo, see `DeviceMask`."""
        step = grid_step(*logits.shape()[2:])
        (found,) = self._to_grid.run(
            {onnx_steps.LOGITS: logits, onnx_steps.STEP: np.array([step, step])}
        )
        return found.numpy().transpose(0, 2, 3, 1)

    def _logits(
        self, images: np.ndarray
    ) -> Iterator[tuple["onnxruntime.OrtValue", "onnxruntime.OrtValue"]]:
        """Logits `(n, classes, h, w)` on the device, and for each photo 0, or NaN if some are not
        finite; of all photos, or one by one if the network takes no more.
        """
        count = 1 if self._network.takes_one else len(images)
        for start in range(0, len(images), count):
            (taken,) = self._to_input.run({onnx_steps.PHOTOS: images[start : start + count]})
            given = self._network.run(taken)
            logits, finite = self._to_logits.run({onnx_steps.OUTPUT: given})
            yield logits, finite

    def _mask(
        self, logits: "onnxruntime.OrtValue", photo: int, height: int, width: int, margin: int
    ) -> Mask:
        """The mask of a photo, in bands of rows that fit into memory, and its class counts."""
        from models.interpolation import count_rows

        _, classes, source_height, source_width = logits.shape()
        rows = onnx_steps.weights(source_height, height)
        columns = onnx_steps.weights(source_width, width, margin).T
        feeds = {
            onnx_steps.LOGITS: logits,
            onnx_steps.PHOTO: np.array([photo]),
            onnx_steps.COLUMNS: np.ascontiguousarray(columns),
        }
        mask = np.empty((height, width), np.uint8)
        band = max(1, BAND_VALUES // (classes * width))
        for top in range(0, height, band):
            part = slice(top, top + band)
            (found,) = self._to_mask.run({**feeds, onnx_steps.ROWS: rows[part]})
            mask[part] = found.numpy()[0]
        counts = np.zeros((height, classes), np.int64)
        count_rows(mask, counts)
        return mask, counts.sum(axis=0)


class _Step:
    """A graph that is ready to run on a device. Safe to use from threads.

    Args:
        content: the graph.
        providers: what computes it.
        memory: where results are left.
        name: of the model, for messages.

    Raises:
        EngineError: ONNX Runtime cannot load the graph, or not what is to compute it.
    """

    def __init__(self, content: bytes, providers: Sequence[Provider], memory: str, name: str):
        onnxruntime = _import()
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.log_severity_level = ONLY_FATAL
        with _failures_told(name):
            self._session = onnxruntime.InferenceSession(
                content, settings, providers=providers, enable_fallback=False
            )
        self._memory = memory
        self.inputs = {port.name: port for port in self._session.get_inputs()}
        self.outputs = {port.name: port for port in self._session.get_outputs()}
        found, wanted = self._session.get_providers()[0], providers[0][0]
        if found != wanted:
            raise EngineError(
                f"ONNX Runtime cannot load {wanted}, whose libraries may be missing: pip install "
                f"'{LIBRARIES[wanted]}'"
            )

    def run(
        self, feeds: Mapping[str, "np.ndarray | onnxruntime.OrtValue"], *outputs: str
    ) -> list["onnxruntime.OrtValue"]:
        """Return outputs, by default all, for arrays and values that are on the device."""
        binding = self._session.io_binding()
        for name, value in feeds.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, value)
            else:
                binding.bind_ortvalue_input(name, value)
        for name in outputs or self.outputs:
            binding.bind_output(name, self._memory)
        binding.synchronize_inputs()
        self._session.run_with_iobinding(binding)
        return binding.get_outputs()


class _Network:
    """The network of a package.

    Attributes:
        graph: what the package says of it.
        output_type: NumPy's name of the type of its output.
        takes_one: whether it takes one photo at a time only.

    Raises:
        EngineError: ONNX Runtime cannot load it, or it is not what the package states.
        PackageError: its file was changed.
    """

    def __init__(self, package: ModelPackage, device: Device):
        self.graph = package.imported
        (content,) = package.read_graph()
        self._step = _Step(content, device.network, device.memory, package.name)
        taken, given = self.graph.input.name, self.graph.output.name
        if list(self._step.inputs) != [taken] or given not in self._step.outputs:
            raise EngineError(
                f"{package.name} takes {', '.join(self._step.inputs)} and gives "
                f"{', '.join(self._step.outputs)}, expected {taken} and {given}: import it again"
            )
        photos = self._step.inputs[taken].shape[0]
        if isinstance(photos, int) and photos != 1:
            raise EngineError(
                f"{package.name} takes batches of {photos} photos: export it for one photo or any "
                "number"
            )
        self.takes_one = photos == 1
        self.output_type = _TYPES.get(self._step.outputs[given].type, "float32")

    @property
    def batch_size(self) -> int:
        """Photos in a batch on a GPU, if they fit."""
        return CPU_BATCH_SIZE if self.takes_one else MOST_ON_GPU

    def run(self, taken: "np.ndarray | onnxruntime.OrtValue") -> "onnxruntime.OrtValue":
        """Return what the network gives, on its device."""
        (given,) = self._step.run({self.graph.input.name: taken}, self.graph.output.name)
        return given


_TYPES = {
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
}
"""NumPy's names of the types of scores, by ONNX Runtime's; others are float32."""


def load(package: ModelPackage, options: EngineOptions) -> OnnxRuntimeEngine:
    """Return an engine on the CPU for a package with an ONNX network.

    Raises:
        EngineError: ONNX Runtime is not installed, does not know an operation of the network, or
            does not compute in the precision that was asked for.
        PackageError: the network's file was changed.
    """
    return OnnxRuntimeEngine(package, ON_CPU, options)


def on_gpu(
    package: ModelPackage, options: EngineOptions
) -> OnnxRuntimeEngine | OnnxRuntimeMaskEngine | None:
    """Return an engine on a GPU, warmed up; None, with a warning, where that is not possible.

    Raises:
        EngineError: a GPU is required, and ONNX Runtime cannot use one.
        PackageError: the network's file was changed.
    """
    try:
        device = gpu(package, options)
        if package.imported.output.gives is Gives.CLASS_IDS:
            return OnnxRuntimeEngine(package, device, options)
        return OnnxRuntimeMaskEngine(package, device, options)
    except EngineError as error:
        if options.gpu is GpuPolicy.REQUIRED:
            raise EngineError(f"a GPU is required: {error}") from error
        logger.warning("No GPU is used: %s", error)
        return None


def gpu(package: ModelPackage, options: EngineOptions) -> Device:
    """The first GPU: CUDA, and TensorRT if it has to bring a network to half precision.

    Raises:
        EngineError: ONNX Runtime is not installed, or was built without these.
    """
    onnxruntime = _import()
    found = onnxruntime.get_available_providers()
    wanted = [CUDA]
    if options.precision is Precision.F16 and package.imported.precision == Precision.F32.value:
        wanted = [TENSORRT, CUDA]
    if not set(wanted) <= set(found):
        raise EngineError(
            f"ONNX Runtime {onnxruntime.__version__} has {', '.join(found)}, expected "
            f"{' and '.join(wanted)}: pip install onnxruntime-gpu in place of onnxruntime"
        )
    with redirect_stdout(None):  # It prints what it does not find.
        onnxruntime.preload_dlls()
    settings = {
        "arena_extend_strategy": "kSameAsRequested",  # Else halved batches may not fit either.
        "cudnn_conv_algo_search": "HEURISTIC",  # The default tries all for each new shape.
    }
    exact = (CUDA, {**settings, "use_tf32": "0"})
    network = [exact if options.precision is Precision.F32 else (CUDA, settings), (CPU, {})]
    if TENSORRT in wanted:
        # By the weights as well, which are not part of the names that TensorRT gives its files.
        folder = cache_folder().with_name("tensorrt") / package.fingerprint
        folder.mkdir(parents=True, exist_ok=True)
        half = {"trt_fp16_enable": "1", "trt_engine_cache_enable": "1"}
        network.insert(0, (TENSORRT, {**half, "trt_engine_cache_path": str(folder)}))
    return Device("cuda", tuple(network), (exact, (CPU, {})), is_gpu=True)


def _precision(package: ModelPackage, device: Device, options: EngineOptions) -> Precision:
    """That of the network, which only TensorRT changes; raises EngineError if another is wanted."""
    return Precision.F16 if device.network[0][0] == TENSORRT else precision_of(package, options)


def _blank(package: ModelPackage, count: int) -> np.ndarray:
    return np.zeros((count, *package.nominal_shape, 3), np.uint8)


def _import() -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f"ONNX Runtime cannot be imported ({error}): pip install 'citymask[onnx]'"
        ) from error
    return onnxruntime


@contextmanager
def _failures_told(name: str) -> Iterator[None]:
    """Make one line of what ONNX Runtime raises, which are errors of many types."""
    try:
        yield
    except (EngineError, PackageError):
        raise
    except Exception as error:
        reason = one_line(error)
        raise EngineError(f"ONNX Runtime cannot run {name}: {reason}") from error
