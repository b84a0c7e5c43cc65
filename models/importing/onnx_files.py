"""ONNX files: networks as PyTorch, tf2onnx and others export them.

An ONNX file is data, no code, as long as its operations are the standard's. It may keep weights in
other files: they are read into the one that a package holds. No memory is taken for a tensor before
it is known that its bytes are there.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from models.graphs import SUFFIXES, Format
from models.importing.sources import ModelImportError, Source
from models.protobufs import check_parts

if TYPE_CHECKING:
    import onnx

FILE = "network.onnx"
"""Name of the file in a package."""

MAX_BYTES = (2 << 30) - 1
"""Largest network with its weights: the limit of protobuf, of which ONNX is made."""

MAX_PARTS = 1 << 19
"""Most operations, attributes, names and so on; networks have some ten thousands."""

STANDARD = ("", "ai.onnx")
"""Both names of the domain of the standard's operations."""

QUANTISED_DOMAIN = "com.microsoft"
QUANTISED = frozenset(
    {
        *("DequantizeLinear", "QLinearAdd", "QLinearAveragePool", "QLinearConcat"),
        *("QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul", "QLinearReduceMean"),
        *("QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QuantizeLinear"),
    }
)
"""Operations beyond the standard that ONNX Runtime's quantiser writes. It has them built in
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md), OpenVINO most."""

_BITS = {
    **dict.fromkeys(["DOUBLE", "INT64", "UINT64"], 64),
    **dict.fromkeys(["FLOAT", "INT32", "UINT32"], 32),
    **dict.fromkeys(["BFLOAT16", "FLOAT16", "INT16", "UINT16"], 16),
    **dict.fromkeys(["BOOL", "INT8", "UINT8"], 8),
    **dict.fromkeys(["FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"], 8),
    **dict.fromkeys(["INT4", "UINT4"], 4),
}
"""Bits of an element, by the type of a tensor."""

_FIELDS = {
    "DOUBLE": "double_data",
    "FLOAT": "float_data",
    "INT64": "int64_data",
    "STRING": "string_data",
    **dict.fromkeys(["UINT32", "UINT64"], "uint64_data"),
}
"""Where a tensor keeps elements that are no bytes; other types have them in `int32_data`."""


def matches(path: Path) -> bool:
    """Whether this is an ONNX file, by its name."""
    return path.suffix.lower() in SUFFIXES[Format.ONNX] and path.is_file()


def read(path: Path) -> Source:
    """Read a network.

    Raises:
        ModelImportError: it is no ONNX file, damaged or too large, has operations that are not the
            standard's, or keeps weights outside its folder; or the package onnx is missing.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ModelImportError(
            f"{path}: reading it needs the package onnx: pip install 'citymask[onnx]'"
        ) from error
    from models.importing import onnx_graphs

    _check_size(path.stat().st_size, path)
    content = path.read_bytes()
    model = onnx.ModelProto()
    try:
        check_parts(memoryview(content), model.DESCRIPTOR, MAX_PARTS)
        model.ParseFromString(content)
        if not model.graph.node or not model.opset_import:
            raise ModelImportError(f"{path}: no ONNX file, or cut short: it holds no whole graph")
        tensors = _checked_tensors(model, path)
        if external := [tensor for tensor in tensors if _is_external(tensor)]:
            _read_external(external, len(content), path)
            content = model.SerializeToString()
        understood = onnx_graphs.understand(model, path)
    except ModelImportError:
        raise
    except (DecodeError, ValueError) as error:  # Of names that are no text as well.
        raise ModelImportError(f"{path}: no ONNX file, damaged or cut short ({error})") from error
    return Source(format=Format.ONNX, files={FILE: content}, **understood)


def _check_size(size: int, path: Path) -> None:
    if size > MAX_BYTES:
        raise ModelImportError(
            f"{path}: the network has {size} bytes with its weights, expected {MAX_BYTES} at most: "
            "export it in half precision"
        )


def _checked_tensors(model: "onnx.ModelProto", path: Path) -> list["onnx.TensorProto"]:
    """Refuse what is not the standard's and tensors that lack bytes; return all tensors."""
    import onnx

    if model.functions:
        raise ModelImportError(
            f"{path}: it defines the operation {model.functions[0].name!r}, expected those of the "
            "standard only: inline it by onnx.inliner.inline_local_functions"
        )
    tensors = []
    for message in _messages(model):
        if isinstance(message, onnx.NodeProto):
            _check_operation(message, path)
        elif isinstance(message, onnx.SparseTensorProto):
            raise ModelImportError(f"{path}: it holds a sparse tensor: export it with dense ones")
        elif isinstance(message, onnx.TensorProto):
            _check_tensor(message, path)
            tensors.append(message)
    return tensors


def _messages(message: Any) -> Iterator[Any]:
    """A message and all that are in it, but not in tensors: their bytes would be copied."""
    import onnx

    yield message
    if isinstance(message, onnx.TensorProto):
        return
    for field, value in message.ListFields():
        if field.message_type:
            parts = [value] if hasattr(value, "ListFields") else value
            yield from itertools.chain.from_iterable(map(_messages, parts))


def _check_operation(node: "onnx.NodeProto", path: Path) -> None:
    quantised = node.domain == QUANTISED_DOMAIN and node.op_type in QUANTISED
    if node.domain not in STANDARD and not quantised:
        raise ModelImportError(
            f"{path}: the operation {node.op_type!r} is of the domain {node.domain!r}, expected "
            "those of the standard: export it without custom operations"
        )


def _check_tensor(tensor: "onnx.TensorProto", path: Path) -> None:
    name, shape = _type_name(tensor), list(tensor.dims)
    if name not in {*_BITS, "STRING"} or min(shape, default=0) < 0 or tensor.HasField("segment"):
        raise ModelImportError(
            f"{path}: the tensor {tensor.name!r} is of the type {name} and the shape {shape}, "
            "expected numbers and a shape: export it again"
        )
    if _is_external(tensor):
        return
    stated, held, unit = _bytes(tensor), len(tensor.raw_data), "bytes"
    if not held:
        stated = -(-math.prod(shape) // 2) if _BITS.get(name) == 4 else math.prod(shape)
        held, unit = len(getattr(tensor, _FIELDS.get(name, "int32_data"))), "numbers"
    if held != stated:
        raise ModelImportError(
            f"{path}: the tensor {tensor.name!r} of the shape {shape} holds {held} {unit}, "
            f"expected {stated}: the file is damaged"
        )


def _type_name(tensor: "onnx.TensorProto") -> str:
    import onnx

    types = onnx.TensorProto.DataType
    return types.Name(tensor.data_type) if tensor.data_type in types.values() else "unknown"


def _bytes(tensor: "onnx.TensorProto") -> int:
    """The bytes that a tensor should have."""
    return -(-math.prod(tensor.dims) * _BITS.get(_type_name(tensor), 0) // 8)


def _is_external(tensor: "onnx.TensorProto") -> bool:
    return tensor.data_location == tensor.EXTERNAL or bool(tensor.external_data)


def _read_external(tensors: Sequence["onnx.TensorProto"], size: int, path: Path) -> None:
    """Read tensors from files below the model's folder, after all of them have been checked.

    Args:
        tensors: that are not in the model's file.
        size: of the model's file, in bytes.
        path: of the model's file.
    """
    _check_size(size + sum(map(_bytes, tensors)), path)
    places = [_place(tensor, path) for tensor in tensors]
    for tensor, (file, offset) in zip(tensors, places, strict=True):
        with file.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(_bytes(tensor))
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def _place(tensor: "onnx.TensorProto", path: Path) -> tuple[Path, int]:
    """The file that holds a tensor, and the number of its first byte in there."""
    stated = {entry.key: entry.value for entry in tensor.external_data}
    location, expected = stated.get("location", ""), _bytes(tensor)
    where = f"{path}: the tensor {tensor.name!r} is kept in {location!r}"
    parts = PurePosixPath(location.replace("\\", "/")).parts
    folder = path.parent.resolve()
    if not parts or "\0" in location or PureWindowsPath(location).anchor or ".." in parts:
        raise ModelImportError(f"{where}, expected a file below the folder of the model: refused")
    file = folder.joinpath(*parts).resolve()
    # Caches of hubs keep all files of a model in one folder, and links to them in another one.
    if not file.is_relative_to(folder) and file.parent != path.resolve().parent:
        raise ModelImportError(
            f"{where}, a link that leads out of the folder of the model: refused; put the file "
            "itself there"
        )
    if not file.is_file():
        raise ModelImportError(f"{where}, and there is no such file: put it there")
    try:
        offset = int(stated.get("offset", 0))
        length = int(stated.get("length", expected))
    except ValueError:
        raise ModelImportError(f"{where} at no number: the file is damaged") from None
    if offset < 0 or length != expected or offset + length > file.stat().st_size:
        raise ModelImportError(
            f"{where}, {length} bytes from {offset} of {file.stat().st_size}, expected {expected} "
            "bytes in there: a file is damaged or of another model"
        )
    return file, offset
