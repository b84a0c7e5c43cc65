"""OpenVINO on a CPU."""

import logging
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from models.engines import devices
from models.engines.batches import CPU_BATCH_SIZE, BatchedEngine
from models.engines.conversion import import_openvino, openvino_model
from models.engines.options import AUTOMATIC, EngineError, EngineOptions, Precision
from models.packages import ModelPackage

logger = logging.getLogger(__name__)

DEVICE = "CPU"
BFLOAT16 = "BF16"
"""OpenVINO's name for the capability to multiply in bfloat16."""

_FIRST_INFERENCE = threading.Lock()
"""Held during each engine's first inference, which its constructor runs: two threads that run the
first inference of a process at once deadlock in the set-up of OpenVINO's Python binding."""


class OpenVinoEngine(BatchedEngine):
    """Runs one photo per core, in streams of one thread each.

    A network is compiled for each input shape, when the shape is first seen.

    Args:
        package: the model to run. Its weights are read here, unless its conversion is cached.
        options: precision, batch size and threads.

    Raises:
        EngineError: OpenVINO is not installed, does not run here or does not support an operation
            of the network, or bfloat16 is requested and the processor lacks it.
        PackageError: the weights do not fit the package's description.
    """

    def __init__(self, package: ModelPackage, options: EngineOptions = AUTOMATIC):
        try:
            import_openvino()
            import openvino
        except ImportError as error:
            raise EngineError(
                f"OpenVINO cannot be imported ({error}): pip install openvino, or choose another "
                "engine"
            ) from error
        core = openvino.Core()
        precision = _precision(core, options.precision)
        threads = options.threads or devices.cores()
        super().__init__(options.batch_size or CPU_BATCH_SIZE, threads, precision)
        self._core = core
        self._shapes: dict[tuple[int, ...], _Compiled] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(self.streams, "openvino")
        try:
            self._model = openvino_model(package)
            with _FIRST_INFERENCE:
                self._predict(np.zeros((1, *package.nominal_shape, 3), np.uint8))
        except EngineError:
            raise
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise EngineError(f"OpenVINO does not run here: {reason}") from error
        logger.debug("OpenVINO: %s, %d streams", precision.value, self.streams)

    def _predict(self, images: np.ndarray) -> np.ndarray:
        compiled = self._compiled(images.shape[1:])
        if len(images) == 1:
            return compiled.infer(images)
        return np.concatenate(list(self._threads.map(compiled.infer, images[:, None])))

    def _compiled(self, shape: tuple[int, ...]) -> "_Compiled":
        with self._lock:
            if shape not in self._shapes:
                model = self._model.clone()
                model.reshape([1, *shape])
                settings = {
                    "INFERENCE_PRECISION_HINT": self.precision.value,
                    "NUM_STREAMS": self.streams,
                    "INFERENCE_NUM_THREADS": self.streams,
                    "ENABLE_CPU_PINNING": False,  # Other threads need the cores as well.
                }
                self._shapes[shape] = _Compiled(self._core.compile_model(model, DEVICE, settings))
            return self._shapes[shape]


class _Compiled:
    """A network compiled for one input shape, with reused requests. Safe to use from threads."""

    def __init__(self, network):
        self._network = network
        self._free: queue.LifoQueue = queue.LifoQueue()

    def infer(self, image: np.ndarray) -> np.ndarray:
        """Return the logits of one photo `(1, h, w, 3)`."""
        try:
            request = self._free.get_nowait()
        except queue.Empty:
            request = self._network.create_infer_request()
        request.infer([image], share_inputs=True)
        logits = request.get_output_tensor().data.copy()
        self._free.put(request)
        return logits


def _precision(core, precision: Precision) -> Precision:
    """The precision to compute in; automatic is bfloat16 if the processor has it."""
    has_bfloat16 = BFLOAT16 in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    if precision is Precision.BF16 and not has_bfloat16:
        raise EngineError(
            f"{core.get_property(DEVICE, 'FULL_DEVICE_NAME')} has no bfloat16: choose the "
            f"precision {Precision.AUTO.value} or {Precision.F32.value}"
        )
    return Precision.F32 if precision is Precision.F32 or not has_bfloat16 else Precision.BF16
