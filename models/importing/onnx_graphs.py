"""What the graph of an ONNX file tells: inputs, outputs, precision, and what the outputs are."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.graphs import Gives
from models.importing import onnx_metadata
from models.importing.origins import MASK_AXES, Origin, decisive, of_outputs
from models.importing.sizes import Shape, check_elements
from models.importing.sources import Fact, Facts, ModelImportError, Port
from models.texts import one_line

if TYPE_CHECKING:
    import onnx

LARGE = 1 << 10
"""Elements from which on a tensor holds weights, and not a shape or axes."""

SOURCE = "the graph"

QUANTISING = frozenset(
    {
        *("ConvInteger", "DynamicQuantizeLinear", "MatMulInteger"),
        *("QLinearConv", "QuantizeLinear"),
    }
)
"""Operations of networks that compute in 8-bit integers."""

HALVES = ("FLOAT16", "BFLOAT16")


def understand(model: "onnx.ModelProto", path: Path) -> dict[str, Any]:
    """The fields of `Source` that the graph tells.

    Args:
        model: whose operations and tensors were checked, and which holds all of its tensors.
        path: of its file, for messages.

    Raises:
        ModelImportError: the graph does not follow the standard, or asks for too much memory.
    """
    outline = _outline(model)
    graph = _inferred(outline, path).graph
    weights = {tensor.name for tensor in (*model.graph.initializer, *outline.graph.initializer)}
    large = {value.name for value in outline.graph.input} - {v.name for v in model.graph.input}
    inputs = [value for value in graph.input if value.name not in weights | large]
    return {
        "precision": _precision(model.graph),
        "inputs": tuple(_port(value, graph, path) for value in inputs),
        "outputs": tuple(_port(value, graph, path) for value in graph.output),
        "facts": Facts(**_facts(model, graph)),
    }


def _outline(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The model without the bytes of its weights: they are inputs of it."""
    import onnx

    graph = onnx.GraphProto(name=model.graph.name or "graph")
    for field in ("input", "output", "value_info"):
        getattr(graph, field).extend(getattr(model.graph, field))
    known = {value.name for value in graph.input}

    def note(name: str, tensor: "onnx.TensorProto") -> None:
        if name not in known:
            described = onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
            graph.input.append(described)

    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) < LARGE:
            graph.initializer.append(tensor)
        else:
            note(tensor.name, tensor)
    for node in model.graph.node:
        held = next((attribute.t for attribute in node.attribute if attribute.HasField("t")), None)
        if node.op_type == "Constant" and node.output and held and math.prod(held.dims) >= LARGE:
            note(node.output[0], held)
        else:
            graph.node.append(node)
    return onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, graph=graph
    )


def _inferred(outline: "onnx.ModelProto", path: Path) -> "onnx.ModelProto":
    """The outline with the shapes of all tensors that can be inferred, checked."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(outline, data_prop=True)
        onnx.checker.check_model(inferred)
    except Exception as error:  # Its native parts raise many types of errors.
        reason = one_line(error)
        raise ModelImportError(f"{path}: the graph breaks the standard: {reason}") from error
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        check_elements(value.name, _shape(value) or (), path)
    return inferred


def _shape(value: "onnx.ValueInfoProto") -> Shape | None:
    """The sizes of a tensor, None for open ones; None if not even their number is known."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    sizes = value.type.tensor_type.shape.dim
    return tuple(size.dim_value if size.dim_value > 0 else None for size in sizes)


def _port(value: "onnx.ValueInfoProto", graph: "onnx.GraphProto", path: Path) -> Port:
    import onnx

    shape, kind = _shape(value), value.type.tensor_type.elem_type
    numeric = onnx.helper.get_all_tensor_dtypes() - {onnx.TensorProto.STRING}
    if shape is None or kind not in numeric:
        raise ModelImportError(
            f"{path}: {value.name!r} is no tensor of numbers with a known number of axes: export "
            "it with inputs and outputs that are"
        )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind).name
    return Port(value.name, dtype, shape, *_quantisation(graph, value.name))


def _quantisation(graph: "onnx.GraphProto", name: str) -> tuple[float, int] | tuple[()]:
    """Scale and zero point of an input that is dequantised, or an output that was quantised."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        is_input = node.op_type == "DequantizeLinear" and node.input[0] == name
        is_output = node.op_type == "QuantizeLinear" and node.output[0] == name
        if not is_input and not is_output:
            continue
        known = [constants[key] for key in node.input[1:] if key in constants]
        numbers = [numpy_helper.to_array(tensor) for tensor in known]
        if len(numbers) == len(node.input) - 1 and all(array.size == 1 for array in numbers):
            scale, zero_point = [array.item() for array in (*numbers, np.zeros(1))][:2]
            return (float(scale), int(zero_point)) if 0 < scale < math.inf else ()
    return ()


def _precision(graph: "onnx.GraphProto") -> str:
    """What most elements of the weights are in, or int8 if they are rounded to integers."""
    import onnx

    if any(node.op_type in QUANTISING for node in graph.node):
        return "int8"
    elements = {"f16": 0, "f32": 0}
    for tensor in graph.initializer:
        is_half = onnx.TensorProto.DataType.Name(tensor.data_type) in HALVES
        elements["f16" if is_half else "f32"] += math.prod(tensor.dims)
    return max(("f32", "f16"), key=lambda precision: elements[precision])


def _facts(model: "onnx.ModelProto", graph: "onnx.GraphProto") -> dict[str, Fact[Any]]:
    found = onnx_metadata.facts({entry.key: entry.value for entry in model.metadata_props})
    if model.producer_name:
        exported = Fact(f"exported by {model.producer_name}", SOURCE)
        found.setdefault("architecture", exported)
    masks = [output.name for output in graph.output if len(_shape(output) or ()) >= MASK_AXES]
    return found | of_outputs([_origin(graph, name) for name in masks], SOURCE)


def _origin(graph: "onnx.GraphProto", name: str) -> Origin | None:
    nodes = list(_backwards(graph, name))
    found = decisive(node.op_type for node in nodes)
    if not found:
        return None
    place, gives = found
    return Origin(gives, _choices(graph, nodes[place]) if gives is Gives.CLASS_IDS else None)


def _backwards(graph: "onnx.GraphProto", name: str) -> Iterator["onnx.NodeProto"]:
    """The operations that a tensor comes from, along their first inputs."""
    producers = {output: node for node in graph.node for output in node.output}
    for _ in graph.node:
        node = producers.get(name)
        if not node:
            return
        yield node
        name = node.input[0] if node.input else ""


def _choices(graph: "onnx.GraphProto", node: "onnx.NodeProto") -> int | None:
    """The size of the axis of which an ArgMax gives the place of the highest value."""

    known = {value.name: value for value in (*graph.value_info, *graph.input)}
    shape = _shape(known[node.input[0]]) if node.input[0] in known else None
    default = 0 if node.op_type == "ArgMax" else -1
    stated = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
    axis = stated[0] if stated else default
    return shape[axis] if shape and -len(shape) <= axis < len(shape) else None
