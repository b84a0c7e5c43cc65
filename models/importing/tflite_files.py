"""TFLite (LiteRT) files, quantised ones too."""

import math
from pathlib import Path

from models import tflite
from models.graphs import SUFFIXES, Format, Gives
from models.importing import tflite_metadata
from models.importing.sources import Fact, Facts, ModelImportError, Port, Source
from models.tflite import Operation, Tensor, TfliteNetwork
from models.weight_files import MAX_BYTES

SUFFIX = SUFFIXES[Format.TFLITE][0]

_SAME_MEANING = {
    tflite.CAST, tflite.DEQUANTIZE, tflite.EXPAND_DIMS, tflite.PACK, tflite.QUANTIZE,
    tflite.RESHAPE, tflite.RESIZE_BILINEAR, tflite.RESIZE_NEAREST, tflite.SLICE, tflite.SQUEEZE,
    tflite.STRIDED_SLICE, tflite.TRANSPOSE,
}  # fmt: skip
"""Operations that change type, shape or size, and not what the numbers mean."""

_INTEGERS = {"int4", "int8", "uint8"}


def matches(path: Path) -> bool:
    """Whether a file has the name of a TFLite file."""
    return path.suffix.lower() == SUFFIX and path.is_file()


def read(path: Path) -> Source:
    """Read a TFLite file. Nothing of it is run.

    Raises:
        ModelImportError: it cannot be read, is damaged, or needs operations of its maker.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelImportError(f"{path}: found {size} bytes, expected at most {MAX_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise ModelImportError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        network = tflite.parse(content)
        return Source(
            format=Format.TFLITE,
            precision=_precision(network),
            files={f"network{SUFFIX}": content},
            inputs=tuple(_port(network.tensors[position]) for position in network.inputs),
            outputs=tuple(_port(network.tensors[position]) for position in network.outputs),
            facts=_facts(network, content),
        )
    except ValueError as error:
        raise ModelImportError(f"{path}: {error}") from error


def _port(tensor: Tensor) -> Port:
    return Port(tensor.name, tensor.dtype, tensor.shape, tensor.scale, tensor.zero_point)


def _precision(network: TfliteNetwork) -> str:
    constants = [tensor for tensor in network.tensors if len(tensor.values)]
    if any(tensor.quantised and tensor.dtype in _INTEGERS for tensor in constants):
        return "int8"
    return "f16" if any(tensor.dtype == "float16" for tensor in constants) else "f32"


def _facts(network: TfliteNetwork, content: bytes) -> Facts:
    """What the metadata states, then what follows from the operations and the quantisation."""
    facts = Facts()
    metadata = network.metadata.get(tflite_metadata.ENTRY)
    if metadata is not None:
        facts = tflite_metadata.stated(metadata.tobytes(), content)
    if len(network.inputs) == 1:
        facts = facts.filled_from(_of_input(network.tensors[network.inputs[0]]))
    of_outputs = [_of_output(network, position) for position in network.outputs]
    if of_outputs and all(found == of_outputs[0] for found in of_outputs):
        facts = facts.filled_from(of_outputs[0])
    return facts


def _of_input(tensor: Tensor) -> Facts:
    """Mean and deviation with which a quantised input gets the bytes of a photo."""
    least = {"uint8": 0, "int8": -128}.get(tensor.dtype)
    if least is None or tensor.scale is None:
        return Facts()
    mean, std = (tensor.zero_point - least) / 255, 1 / (255 * tensor.scale)
    source = "quantisation of the input"
    return Facts(mean=Fact((mean,) * 3, source), std=Fact((std,) * 3, source))


def _of_output(network: TfliteNetwork, position: int) -> Facts:
    """What the operations before an output tell of its numbers."""
    operation = _meaning(network, position)
    code = operation.code if operation else None
    if operation and code == tflite.ARG_MAX:
        outputs = _compared(network, operation)
        return Facts(
            gives=Fact(Gives.CLASS_IDS, "its argmax"),
            outputs=Fact(outputs, "its argmax") if outputs else None,
        )
    if code in (tflite.SOFTMAX, tflite.LOGISTIC):
        name = "softmax" if code == tflite.SOFTMAX else "sigmoid"
        return Facts(gives=Fact(Gives.PROBABILITIES, f"its {name}"))
    tensor = network.tensors[position]
    if tensor.dtype in ("int32", "int64"):
        return Facts(gives=Fact(Gives.CLASS_IDS, f"its type {tensor.dtype}"))
    return Facts(gives=Fact(Gives.LOGITS, "no softmax and no argmax in it"))


def _meaning(network: TfliteNetwork, position: int) -> Operation | None:
    """The operation that gives a tensor its meaning."""
    producers = {int(t): operation for operation in network.operations for t in operation.outputs}
    for _ in network.operations:  # A damaged file may have a circle.
        operation = producers.get(position)
        if operation is None or operation.code not in _SAME_MEANING or not len(operation.inputs):
            return operation
        position = int(operation.inputs[0])
    return None


def _compared(network: TfliteNetwork, argmax: Operation) -> int | None:
    """The number of values of which an argmax takes the greatest."""
    if len(argmax.inputs) != 2 or min(argmax.inputs) < 0:
        return None
    scores, axis = (network.tensors[position] for position in argmax.inputs)
    if axis.dtype not in ("int32", "int64") or math.prod(size or 0 for size in axis.shape) != 1:
        return None
    if not len(axis.values):
        return None
    where = int(axis.values.view(axis.dtype)[0])
    return scores.shape[where] if -len(scores.shape) <= where < len(scores.shape) else None
