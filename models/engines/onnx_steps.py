"""Small ONNX graphs around an imported one: photos to its input, its output to logits and masks.

They run where the network runs, so that photos go there as bytes and only masks come back. What
they compute is what `graph_arrays` and `models.upsampling` do on the host.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from models.engines.graph_arrays import LEAST_PROBABILITY, input_values
from models.graphs import Channels, Gives, Graph, Layout
from models.packages import ModelPackage
from models.upsampling import neighbours

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 17, 8
"""Versions of the standard that ONNX Runtime has known since 1.13."""

PHOTOS, INPUT = "photos", "input"
"""Input and output of `photos_to_input`."""

OUTPUT, LOGITS, FINITE = "output", "logits", "finite"
"""Input and outputs of `output_to_logits`."""

STEP, GRID = "step", "grid"
"""Input, besides `LOGITS`, and output of `logits_to_grid`."""

PHOTO, ROWS, COLUMNS, MASK = "photo", "rows", "columns", "mask"
"""Inputs, besides `LOGITS`, and output of `logits_to_mask`."""

TO_NCHW = (0, 3, 1, 2)
"""Permutation of the axes of photos."""


def photos_to_input(package: ModelPackage) -> bytes:
    """A graph from uint8 RGB photos `(N, h, w, 3)` to what the network of a package takes.

    Each value comes from a table with an entry for each level of each colour.
    """
    taken = package.imported.input
    table = input_values(package)
    order = [2, 1, 0] if taken.channels is Channels.BGR else [0, 1, 2]
    steps = _Steps(PHOTOS)
    steps.add("Cast", to=_type("int32"))
    steps.add("Gather", np.array(order), axis=3)
    steps.add("Add", np.array([0, 256, 512], np.int32))
    steps.add_first("Gather", table.T[order].ravel(), axis=0)
    if taken.layout is Layout.NCHW:
        steps.add("Transpose", perm=TO_NCHW)
    return steps.graph({PHOTOS: ("uint8", 4)}, {steps.name: (INPUT, taken.dtype, 4)})


def output_to_logits(graph: Graph, dtype: str) -> bytes:
    """A graph from the scores of a network to float32 logits `(N, classes, h, w)`.

    It also gives for each photo 0 if all of its logits are finite, else NaN.

    Args:
        graph: the network.
        dtype: of its output.
    """
    given = graph.output
    steps = _Steps(OUTPUT)
    steps.add("Cast", to=_type("float32"))
    if given.layout is Layout.NHWC:
        steps.add("Transpose", perm=TO_NCHW)
    steps.add("Sub", np.float32(given.zero_point))
    steps.add("Mul", np.float32(given.scale))
    if given.outputs == 1:
        scores = steps.name
        base = 1 if given.gives is Gives.PROBABILITIES else 0
        steps.add("Mul", np.float32(-base))
        steps.add("Add", np.float32(base))
        steps.add("Concat", scores, axis=1)
    else:
        steps.add("Gather", np.array(given.channels), axis=1)
    if given.gives is Gives.PROBABILITIES:
        steps.add("Max", np.float32(LEAST_PROBABILITY))
        steps.add("Log")
    logits = steps.name
    steps.add("Mul", np.float32(0))
    steps.add("ReduceSum", np.array([1, 2, 3]), keepdims=0)
    return steps.graph(
        {OUTPUT: (dtype, 4)},
        {logits: (LOGITS, "float32", 4), steps.name: (FINITE, "float32", 1)},
    )


def logits_to_grid() -> bytes:
    """A graph from logits `(N, classes, h, w)` to those of every so many rows and columns.

    A further input says every how many, int64 `(2,)`.
    """
    steps = _Steps(LOGITS)
    whole = np.array([np.iinfo(np.int64).max] * 2)
    steps.add("Slice", np.array([0, 0]), whole, np.array([2, 3]), STEP)
    return steps.graph(
        {LOGITS: ("float32", 4), STEP: ("int64", 1)}, {steps.name: (GRID, "float32", 4)}
    )


def logits_to_mask() -> bytes:
    """A graph from logits `(N, classes, h, w)` to the class ids of a photo, uint8 `(1, H, W)`.

    Further inputs are the number of the photo, and the weights by which rows and columns are
    interpolated, float32 `(H, h)` and `(w, W)`, see `weights`.
    """
    steps = _Steps(LOGITS)
    steps.add("Gather", PHOTO, axis=0)
    steps.add_first("MatMul", ROWS)
    steps.add("MatMul", COLUMNS)
    steps.add("ArgMax", axis=1, keepdims=0)
    steps.add("Cast", to=_type("uint8"))
    inputs = {LOGITS: ("float32", 4), PHOTO: ("int64", 1)}
    return steps.graph(
        {**inputs, ROWS: ("float32", 2), COLUMNS: ("float32", 2)},
        {steps.name: (MASK, "uint8", 3)},
    )


def weights(source: int, target: int, margin: int = 0) -> np.ndarray:
    """How much each target pixel takes of each source pixel, float32 `(target, source)`.

    The arguments are those of `models.upsampling.neighbours`.
    """
    before, after, weight, _ = neighbours(source, target, margin=margin)
    matrix = np.zeros((target, source), np.float32)
    pixels = np.arange(target)
    matrix[pixels, before] = 1 - weight
    matrix[pixels, after] += weight
    return matrix


def _type(dtype: str) -> int:
    import onnx

    return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _port(name: str, dtype: str, axes: int) -> "onnx.ValueInfoProto":
    import onnx

    return onnx.helper.make_tensor_value_info(name, _type(dtype), [None] * axes)


class _Steps:
    """Operations in a row, each on the result of the one before.

    Attributes:
        name: of the last result.
    """

    def __init__(self, name: str):
        self.name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, operation: str, *others: "np.ndarray | np.generic | str", **attributes) -> None:
        """Add an operation on the last result and on constants or named tensors."""
        self._add(operation, [self.name, *map(self._named, others)], attributes)

    def add_first(self, operation: str, first: np.ndarray | str, **attributes) -> None:
        """Add an operation on a constant or named tensor and on the last result."""
        self._add(operation, [self._named(first), self.name], attributes)

    def graph(
        self,
        inputs: dict[str, tuple[str, int]],
        outputs: dict[str, tuple[str, str, int]],
    ) -> bytes:
        """The whole graph.

        Args:
            inputs: type and number of axes, by name.
            outputs: name, type and number of axes, by the name of the result.
        """
        from onnx import helper

        for result, (name, *_) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [result], [name]))
        taken = [_port(name, *port) for name, port in inputs.items()]
        given = [_port(*port) for port in outputs.values()]
        graph = helper.make_graph(self._nodes, "steps", taken, given, self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        return model.SerializeToString()

    def _add(self, operation: str, inputs: Sequence[str], attributes: dict) -> None:
        from onnx import helper

        self.name = f"{operation} {len(self._nodes)}"
        self._nodes.append(helper.make_node(operation, inputs, [self.name], **attributes))

    def _named(self, value: "np.ndarray | np.generic | str") -> str:
        """The name of a tensor; a constant is given one."""
        from onnx import numpy_helper

        if isinstance(value, str):
            return value
        name = f"constant {len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name
