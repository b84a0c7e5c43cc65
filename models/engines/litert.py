"""LiteRT on a CPU, for imported TFLite networks."""

import queue
from collections.abc import Callable
from typing import Any

import numpy as np

from models.engines import devices
from models.engines.batches import CPU_BATCH_SIZE, BatchedEngine
from models.engines.graph_arrays import GraphArrays
from models.engines.imported import precision_of
from models.engines.options import AUTOMATIC, EngineError, EngineOptions
from models.graphs import Format, Graph
from models.packages import ModelPackage
from models.texts import one_line


class LiteRtEngine(BatchedEngine):
    """Runs one photo per core, each in an interpreter of one thread.

    LiteRT lets other Python threads run meanwhile.

    Args:
        package: a model with a TFLite network.
        options: batch size and threads.

    Raises:
        EngineError: LiteRT is not installed, does not run the network, or computes in another
            precision than the requested one.
        PackageError: the network was changed or is damaged.
    """

    def __init__(self, package: ModelPackage, options: EngineOptions = AUTOMATIC):
        graph = _graph(package)
        super().__init__(
            options.batch_size or CPU_BATCH_SIZE,
            options.threads or devices.cores(),
            precision_of(package, options),
        )
        self._name, self._graph = package.name, graph
        (self._content,) = package.read_graph()
        self._arrays = GraphArrays(package)
        self._make = _interpreter_class()
        self._free: queue.LifoQueue[_Interpreter] = queue.LifoQueue()
        with devices.native_silence():  # It names its delegate; what is wrong is raised.
            self._predict(np.zeros((1, *package.nominal_shape, 3), np.uint8))

    def _predict(self, images: np.ndarray) -> np.ndarray:
        return np.concatenate([self._run(image) for image in images[:, None]])

    def _run(self, image: np.ndarray) -> np.ndarray:
        fed = self._arrays.feed(image)
        try:
            try:
                interpreter = self._free.get_nowait()
            except queue.Empty:
                interpreter = _Interpreter(self._make, self._content, self._graph)
            output = interpreter.run(fed)
        except (RuntimeError, ValueError) as error:
            shape = "x".join(map(str, fed.shape))
            raise EngineError(
                f"LiteRT does not run {self._name} with an input of {shape}: {one_line(error)}"
            ) from error
        self._free.put(interpreter)
        return self._arrays.fetch(output)


class _Interpreter:
    """An interpreter that takes inputs of any shape that the network takes."""

    def __init__(self, make: Callable[..., Any], content: bytes, graph: Graph):
        self._interpreter = make(model_content=content, num_threads=1)
        self._input = _index(self._interpreter.get_input_details(), graph.input.name)
        self._output = _index(self._interpreter.get_output_details(), graph.output.name)
        self._shape: tuple[int, ...] | None = None

    def run(self, fed: np.ndarray) -> np.ndarray:
        """Return what the network gives for an array that it takes."""
        if fed.shape != self._shape:
            self._interpreter.resize_tensor_input(self._input, fed.shape, strict=True)
            self._interpreter.allocate_tensors()
            self._shape = fed.shape
        self._interpreter.set_tensor(self._input, fed)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)


def load(package: ModelPackage, options: EngineOptions = AUTOMATIC) -> LiteRtEngine:
    """Return an engine for a package; see `LiteRtEngine`."""
    return LiteRtEngine(package, options)


def _graph(package: ModelPackage) -> Graph:
    if package.graph is None or package.graph.format is not Format.TFLITE:
        raise EngineError(f"{package.name} is no TFLite network: choose another engine")
    return package.graph


def _index(ports: list[dict[str, Any]], name: str) -> int:
    for port in ports:
        if port["name"] == name:
            return port["index"]
    names = ", ".join(port["name"] for port in ports)
    raise ValueError(f"it has no {name}, but {names}")


def _interpreter_class() -> Callable[..., Any]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise EngineError(
            f"LiteRT cannot be imported ({error}): pip install 'citymask[litert]'"
        ) from error
    return Interpreter
