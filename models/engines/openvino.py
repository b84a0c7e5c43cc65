"""OpenVINO on a CPU."""

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from models.engines import devices
from models.engines.batches import CPU_BATCH_SIZE, BatchedEngine
from models.engines.conversion import import_openvino, openvino_model
from models.engines.graph_arrays import GraphArrays
from models.engines.options import EngineError, EngineOptions, Precision
from models.engines.quantised import int8_model
from models.graphs import Gives
from models.packages import INT8, ModelPackage
from models.texts import one_line

if TYPE_CHECKING:
    import openvino

logger = logging.getLogger(__name__)

DEVICE = "CPU"
CAPABILITIES = {Precision.BF16: "BF16"}
"""What OpenVINO calls the capability to compute in a precision; others it always has."""

PRECISIONS = (Precision.INT8, Precision.BF16, Precision.F32)
"""What it computes in on a CPU."""

_FIRST_INFERENCE = threading.Lock()
"""Held during each engine's first inference, which its constructor runs: two threads that run the
first inference of a process at once deadlock in the set-up of OpenVINO's Python binding."""


class OpenVinoEngine(BatchedEngine):
    """Runs one photo per core, in streams of one thread each.

    A network is compiled for each input shape, when the shape is first seen.

    Args:
        model: the network: uint8 photos `(N, h, w, 3)` to float32 logits, or to class ids.
        nominal_shape: height and width of photos to compile it for at once.
        options: precision, one of `PRECISIONS`, batch size and threads.
        fetch: makes class ids of what the network gives; None if it gives logits.

    Raises:
        EngineError: OpenVINO does not run here.
    """

    def __init__(
        self,
        model: "openvino.Model",
        nominal_shape: tuple[int, int],
        options: EngineOptions,
        fetch: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        super().__init__(
            options.batch_size or CPU_BATCH_SIZE,
            options.threads or devices.cores(),
            options.precision,
        )
        self._model = model
        self._fetch = fetch
        self._shapes: dict[tuple[int, ...], _Compiled] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(self.streams, "openvino")
        try:
            with _FIRST_INFERENCE:
                self._predict(np.zeros((1, *nominal_shape, 3), np.uint8))
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO does not run this network here: {one_line(error)}"
            ) from error

    def _predict(self, images: np.ndarray) -> np.ndarray:
        compiled = self._compiled(images.shape[1:])
        if len(images) == 1:
            given = compiled.infer(images)
        else:
            given = np.concatenate(list(self._threads.map(compiled.infer, images[:, None])))
        return self._fetch(given) if self._fetch else given

    def _compiled(self, shape: tuple[int, ...]) -> "_Compiled":
        with self._lock:
            if shape not in self._shapes:
                model = self._model.clone()
                model.reshape([1, *shape])
                half = self.precision is Precision.BF16
                settings = {
                    "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
                    "NUM_STREAMS": self.streams,
                    "INFERENCE_NUM_THREADS": self.streams,
                    "ENABLE_CPU_PINNING": False,  # Other threads need the cores as well.
                }
                self._shapes[shape] = _Compiled(_core().compile_model(model, DEVICE, settings))
            return self._shapes[shape]


class _Compiled:
    """A network compiled for one input shape, with reused requests. Safe to use from threads."""

    def __init__(self, network):
        self._network = network
        self._free: queue.LifoQueue = queue.LifoQueue()

    def infer(self, image: np.ndarray) -> np.ndarray:
        """Return what the network gives for one photo `(1, h, w, 3)`."""
        try:
            request = self._free.get_nowait()
        except queue.Empty:
            request = self._network.create_infer_request()
        request.infer([image], share_inputs=True)
        given = request.get_output_tensor().data.copy()
        self._free.put(request)
        return given


def load(package: ModelPackage, options: EngineOptions) -> OpenVinoEngine:
    """Return an engine for a package, with the int8 network that it holds or with its weights.

    Args:
        package: the model to run. Its weights are read here, unless their conversion is cached.
        options: precision, one of `PRECISIONS`, batch size and threads.

    Raises:
        EngineError: OpenVINO is not installed, does not run here or does not support an operation
            of the network; or the processor or the package lacks the precision.
        PackageError: the weights or the int8 network do not fit the package's description.
    """
    check_installed()
    precision = options.precision
    if not runs_in(precision):
        raise EngineError(
            f"OpenVINO does not compute in {precision.value} on {processor()}: choose the "
            "precision auto or f32"
        )
    fetch = None
    if package.graph and package.graph.output.gives is Gives.CLASS_IDS:
        fetch = GraphArrays(package).fetch
    if precision is not Precision.INT8 or is_int8(package):
        model = openvino_model(package)
    elif package.network_in(INT8):
        model = int8_model(package)
    else:
        raise EngineError(
            f"{package.name} has no int8 network: make a package that has one by `citymask "
            f"quantise {package.path} --data DIR --output MODEL_DIR`, or choose another precision"
        )
    return OpenVinoEngine(model, package.nominal_shape, options, fetch)


def check_installed() -> None:
    """Raise EngineError if OpenVINO is not installed or does not run here."""
    try:
        import_openvino()
    except ImportError as error:
        raise EngineError(
            f"OpenVINO cannot be imported ({error}): pip install openvino, or choose another engine"
        ) from error
    try:
        processor()
    except RuntimeError as error:
        raise EngineError(f"OpenVINO does not run here: {one_line(error)}") from error


def is_int8(package: ModelPackage) -> bool:
    """Whether the network itself computes in 8-bit integers, as some imported ones do."""
    return package.graph is not None and package.graph.precision == INT8


def runs_in(precision: Precision) -> bool:
    """Whether OpenVINO computes in a precision on this processor."""
    needed = CAPABILITIES.get(precision)
    has = _core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    return precision in PRECISIONS and (not needed or needed in has)


def processor() -> str:
    """OpenVINO's name of the processor."""
    return _core().get_property(DEVICE, "FULL_DEVICE_NAME")


def version() -> str:
    """OpenVINO's version."""
    import openvino

    return openvino.__version__


def _core() -> "openvino.Core":
    import openvino

    return openvino.Core()
