"""TFLite files: the tensors and operations of a network, checked before any library runs it.

Numbers of fields, types and operations are those of TensorFlow Lite's schema version 3,
`tensorflow/compiler/mlir/lite/schema/schema.fbs`.
"""

import math
from dataclasses import dataclass

import numpy as np

from models.flat_tables import Table

IDENTIFIER = b"TFL3"
"""Bytes 4..7 of a file."""

MAX_TENSOR_BYTES = 4 << 30
"""Largest tensor, in bytes."""

MAX_PARTS = 1 << 16
"""Most tensors and operations of all graphs."""

MAX_RANK = 8
"""Most axes of a tensor."""

MAX_OPERANDS = 1024
"""Most tensors that an operation takes or gives."""

# Fields of the tables Model, OperatorCode, SubGraph, Tensor, QuantizationParameters, Operator,
# Buffer and Metadata.
_CODES, _SUBGRAPHS, _BUFFERS, _METADATA, _EXTERNAL_FILES, _EXTERNAL_BUFFERS = 1, 2, 4, 6, 8, 9
_OLD_CODE, _CUSTOM_CODE, _CODE = 0, 1, 3
_TENSORS, _INPUTS, _OUTPUTS, _OPERATORS = 0, 1, 2, 3
_SHAPE, _TYPE, _BUFFER, _NAME, _QUANTISATION = 0, 1, 2, 3, 4
_IS_VARIABLE, _SPARSITY, _SIGNATURE = 5, 6, 7
_SCALE, _ZERO_POINT, _AXIS = 2, 3, 6
_OPCODE, _TAKEN, _GIVEN = 0, 1, 2
_DATA, _DATA_OFFSET, _DATA_SIZE = 0, 1, 2
_METADATA_NAME, _METADATA_BUFFER = 0, 1

TYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16",
    8: "complex64", 9: "int8", 10: "float64", 11: "complex128", 12: "uint64", 15: "uint32",
    16: "uint16", 17: "int4", 18: "bfloat16", 19: "int2", 20: "uint4",
}  # fmt: skip
"""Types of elements by their numbers; others, such as texts, are refused."""

_BITS = {"int2": 2, "int4": 4, "uint4": 4, "bfloat16": 16}
"""Bits of the types that NumPy does not have."""

_RANGES = {
    "uint8": (0, 255), "int8": (-128, 127), "int4": (-8, 7), "int16": (-32768, 32767),
    "int32": (0, 0), "int64": (0, 0),
}  # fmt: skip
"""Least and greatest zero point of the types that libraries compute with."""

DEQUANTIZE, LOGISTIC, RESHAPE, RESIZE_BILINEAR, SOFTMAX = 6, 14, 22, 23, 25
TRANSPOSE, SQUEEZE, STRIDED_SLICE, CAST, ARG_MAX, SLICE = 39, 43, 45, 53, 56, 65
EXPAND_DIMS, PACK, RESIZE_NEAREST, QUANTIZE = 70, 83, 97, 114
_CUSTOM, _DELEGATE = 32, 51


@dataclass(frozen=True)
class Tensor:
    """A tensor.

    Attributes:
        table: what the file states of it.
        dtype: name of the type of its elements.
        shape: None for a size that is open.
        values: bytes of a constant; empty for what is computed.
        scale: of a tensor that is quantised with a single scale, else None.
        zero_point: see `scale`.
        quantised: whether it has one or several scales.
    """

    table: Table
    dtype: str
    shape: tuple[int | None, ...]
    values: np.ndarray
    scale: float | None
    zero_point: int
    quantised: bool

    @property
    def name(self) -> str:
        """Its name; raises ValueError if that is damaged."""
        return self.table.text(_NAME)


@dataclass(frozen=True)
class Operation:
    """An operation.

    Attributes:
        code: its number in the schema.
        inputs: positions of tensors; -1 for one that is left out.
        outputs: positions of tensors.
    """

    code: int
    inputs: np.ndarray
    outputs: np.ndarray


@dataclass(frozen=True)
class TfliteNetwork:
    """What a file holds.

    Attributes:
        tensors: of the main graph.
        operations: of the main graph.
        inputs: positions of tensors.
        outputs: positions of tensors.
        metadata: bytes by name.
    """

    tensors: tuple[Tensor, ...]
    operations: tuple[Operation, ...]
    inputs: np.ndarray
    outputs: np.ndarray
    metadata: dict[str, np.ndarray]

    @property
    def has_uint8_weights(self) -> bool:
        """Whether constants are quantised to uint8, as until 2019; later ones to int8."""
        constants = (tensor for tensor in self.tensors if len(tensor.values))
        return any(tensor.quantised and tensor.dtype == "uint8" for tensor in constants)


def parse(content: bytes) -> TfliteNetwork:
    """Read and check a TFLite file: constants are as large as they state, and no code is needed.

    Raises:
        ValueError: it is damaged, or needs operations or files of its maker; the message does not
            name the file.
    """
    if content[4:8] != IDENTIFIER:
        raise ValueError(f"no TFLite file: bytes 4 to 7 are {content[4:8]!r}, not {IDENTIFIER!r}")
    model = Table.root(content)
    _refuse_other_files(model)
    codes = [_code(table) for table in model.tables(_CODES)]
    buffers = [_bytes_of(table) for table in model.tables(_BUFFERS)]
    metadata = {
        entry.text(_METADATA_NAME): _entry(buffers, entry.number(_METADATA_BUFFER, "<I"), "buffer")
        for entry in model.tables(_METADATA)
    }
    graphs: list[TfliteNetwork] = []
    for table in model.tables(_SUBGRAPHS):
        graphs.append(_graph(table, codes, buffers, metadata))
        if sum(len(graph.tensors) + len(graph.operations) for graph in graphs) > MAX_PARTS:
            raise ValueError(f"it has more than {MAX_PARTS} tensors and operations")
    if not graphs:
        raise ValueError("it holds no network")
    return graphs[0]


def _refuse_other_files(model: Table) -> None:
    if model.tables(_EXTERNAL_FILES) or model.tables(_EXTERNAL_BUFFERS):
        raise ValueError("it keeps weights in other files; convert the network into a single file")


def _code(table: Table) -> int:
    """The number of an operation that the library itself has."""
    # Numbers above 127 do not fit into the older field.
    code = int(max(table.number(_OLD_CODE, "<b"), table.number(_CODE)))
    if code in (_CUSTOM, _DELEGATE):
        name = table.text(_CUSTOM_CODE)[:80] or "without a name"
        hint = "convert the network with built-in operations only"
        if name.startswith("Flex"):
            hint = "it is TensorFlow's: convert the network without SELECT_TF_OPS"
        raise ValueError(f"it needs the custom operation {name!r}; {hint}")
    return code


def _bytes_of(table: Table) -> np.ndarray:
    """The content of a buffer, which in large files stands behind the tables."""
    start, size = int(table.number(_DATA_OFFSET, "<Q")), int(table.number(_DATA_SIZE, "<Q"))
    if start <= 1:  # Converters write 1 for no offset.
        return table.numbers(_DATA, "u1")
    if start + size > len(table.content):
        raise ValueError(
            f"a buffer of {size} bytes begins at byte {start}, and the file has "
            f"{len(table.content)} bytes"
        )
    return np.frombuffer(table.content, np.uint8, size, start)


def _graph(
    table: Table, codes: list[int], buffers: list[np.ndarray], metadata: dict[str, np.ndarray]
) -> TfliteNetwork:
    tensors = tuple(_tensor(entry, buffers) for entry in table.tables(_TENSORS))
    known = range(len(tensors))
    operations = tuple(
        Operation(
            _entry(codes, entry.number(_OPCODE, "<I"), "operation"),
            _positions(entry, _TAKEN, range(-1, len(tensors))),
            _positions(entry, _GIVEN, known),
        )
        for entry in table.tables(_OPERATORS)
    )
    inputs, outputs = (_positions(table, field, known) for field in (_INPUTS, _OUTPUTS))
    graph = TfliteNetwork(tensors, operations, inputs, outputs, metadata)
    _check_flow(graph)
    return graph


def _check_flow(graph: TfliteNetwork) -> None:
    """Check that all that is taken is given before, and that dequantised constants keep their size.

    Libraries rely on both.
    """
    tensors = graph.tensors
    given = {
        position
        for position, tensor in enumerate(tensors)
        if len(tensor.values) or 0 in tensor.shape or tensor.table.number(_IS_VARIABLE, "B")
    }
    given.update(graph.inputs.tolist())
    for operation in graph.operations:
        _check_given(operation.inputs, given, tensors)
        given.update(operation.outputs.tolist())
        if operation.code == DEQUANTIZE and len(operation.inputs) and len(operation.outputs):
            taken, gives = tensors[operation.inputs[0]], tensors[operation.outputs[0]]
            if len(taken.values) and taken.shape != gives.shape:
                raise ValueError(
                    f"{_called(gives.table)} has the shape {list(gives.shape)}, and what it is "
                    f"computed from {list(taken.shape)}"
                )
    _check_given(graph.outputs, given, tensors)


def _check_given(positions: np.ndarray, given: set[int], tensors: tuple[Tensor, ...]) -> None:
    for position in positions.tolist():
        if position >= 0 and position not in given:
            raise ValueError(f"{_called(tensors[position].table)} is used before it is computed")


def _tensor(table: Table, buffers: list[np.ndarray]) -> Tensor:
    kind = int(table.number(_TYPE, "<b"))
    shape, signature = (table.numbers(field, "<i4") for field in (_SHAPE, _SIGNATURE))
    rank = max(len(shape), len(signature))
    if rank > MAX_RANK:
        raise ValueError(f"{_called(table)} has {rank} axes, at most {MAX_RANK} are read")
    sizes = [int(size) for size in shape]
    if min(sizes, default=0) < 0:
        raise ValueError(f"{_called(table)} has the shape {sizes}")
    values = _entry(buffers, table.number(_BUFFER, "<I"), "buffer")
    dtype = TYPES.get(kind)
    if dtype is None:
        raise ValueError(f"{_called(table)} has the type {kind}, which is none of numbers")
    _check_size(table, dtype, sizes, values)
    stated = signature.tolist() if len(signature) == len(shape) else sizes
    scales, zero_points = _quantisation(table, dtype, sizes)
    single = len(scales) == 1
    return Tensor(
        table=table,
        dtype=dtype,
        shape=tuple(None if size < 0 else size for size in stated),
        values=values,
        scale=float(scales[0]) if single else None,
        zero_point=int(zero_points[0]) if single else 0,
        quantised=len(scales) > 0,
    )


def _check_size(table: Table, dtype: str, shape: list[int], values: np.ndarray) -> None:
    """Check the bytes of a tensor; those of a sparse constant may be fewer."""
    bits = _BITS.get(dtype) or 8 * np.dtype(dtype).itemsize
    expected = math.ceil(math.prod(shape) * bits / 8)
    if expected > MAX_TENSOR_BYTES:
        raise ValueError(
            f"{_called(table)} of the shape {shape} would take {expected} bytes, at most "
            f"{MAX_TENSOR_BYTES} are read"
        )
    fits = len(values) == expected or (len(values) < expected and table.table(_SPARSITY))
    if len(values) and not fits:
        raise ValueError(
            f"{_called(table)}: its buffer holds {len(values)} bytes, and {dtype} of the shape "
            f"{shape} are {expected}"
        )


def _quantisation(table: Table, dtype: str, shape: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Scales and zero points of a tensor: none, one, or one for each entry of an axis.

    Libraries compute with them unchecked.
    """
    stated = table.table(_QUANTISATION)
    scales = stated.numbers(_SCALE, "<f4") if stated else np.empty(0)
    if stated is None or not len(scales):
        return scales, scales
    zero_points = stated.numbers(_ZERO_POINT, "<i8")
    axis = stated.number(_AXIS) if len(scales) > 1 else 0
    several = axis in range(len(shape)) and shape[int(axis)] == len(scales)
    least, most = _RANGES.get(dtype, (-math.inf, math.inf))
    if (
        len(zero_points) != len(scales)
        or not (len(scales) == 1 or several)
        or not np.isfinite(scales).all()
        or scales.min() < 0
        or (len(scales) == 1 and scales[0] == 0)
        or not least <= zero_points.min() <= zero_points.max() <= most
    ):
        raise ValueError(
            f"{_called(table)} of type {dtype} and shape {shape} has {len(scales)} scales like "
            f"{scales[0]:g} and {len(zero_points)} zero points like {zero_points[:1]}"
        )
    return scales, zero_points


def _called(table: Table) -> str:
    return f"tensor {table.text(_NAME)[:80]!r}"


def _positions(table: Table, field: int, known: range) -> np.ndarray:
    found = table.numbers(field, "<i4")
    if len(found) > MAX_OPERANDS:
        raise ValueError(f"a list has {len(found)} tensors, at most {MAX_OPERANDS} are read")
    for position in found:
        if position not in known:
            raise ValueError(f"it refers to tensor {position} of {known.stop}")
    return found


def _entry(entries: list, position: int | float, what: str):
    if position >= len(entries):
        raise ValueError(f"it refers to {what} {position} of {len(entries)}")
    return entries[int(position)]
