"""Imported networks as OpenVINO models that take photos as they are.

What a package states of its graph becomes operations before and behind it, so that OpenVINO
computes them together. `graph_arrays` does the same with NumPy.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.engines.graph_arrays import LEAST_PROBABILITY, takes_bytes
from models.engines.options import EngineError
from models.graphs import Channels, Format, Gives, Graph, GraphOutput, Layout
from models.packages import ModelPackage
from models.texts import one_line

if TYPE_CHECKING:
    import openvino

TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]
"""Permutations of axes."""

TYPES = {"uint8": "u8", "int8": "i8", "float16": "f16", "float32": "f32"}
"""OpenVINO's names of the types that inputs have."""


def photo_model(package: ModelPackage) -> "openvino.Model":
    """Read the graph of a package.

    Returns:
        A model that maps uint8 RGB photos `(N, h, w, 3)` to float32 logits `(N, h / s, w / s,
        classes)`, or to class ids as the network gives them.

    Raises:
        EngineError: OpenVINO cannot read it, or it is not what the package states.
        PackageError: a file was changed.
    """
    import openvino

    graph = package.imported
    try:
        model = read_graph(package)
        photos = _take_photos(model, package, graph)
        output = _scores(_port(model, graph.output.name), graph.output)
        return openvino.Model([output], [photos], package.name)
    except RuntimeError as error:
        reason = one_line(error)
        raise EngineError(f"OpenVINO cannot run {package.name}: {reason}") from error


def read_graph(package: ModelPackage) -> "openvino.Model":
    """Read the graph of a package as it is, without looking for other files.

    Raises:
        RuntimeError: OpenVINO cannot read it.
        PackageError: a file was changed.
    """
    import openvino

    content = package.read_graph()
    if package.graph and package.graph.format is Format.TFLITE:  # It is read from a path only.
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "network.tflite")
            file.write_bytes(content[0])
            return openvino.Core().read_model(file)
    weights = content[1] if len(content) > 1 else b""
    return openvino.Core().read_model(content[0], openvino.Tensor(np.frombuffer(weights, np.uint8)))


def _take_photos(
    model: "openvino.Model", package: ModelPackage, graph: Graph
) -> "openvino.op.Parameter":
    """Replace the network's input by photos, and return these."""
    from openvino import opset13 as ops

    taken = graph.input
    if len(model.get_parameters()) != 1:
        raise RuntimeError(f"it has {len(model.get_parameters())} inputs, expected one for photos")
    (replaced,) = model.get_parameters()
    size = (-1, -1) if taken.open else (package.input_height, package.input_width)
    batch = replaced.get_partial_shape()[0]
    photos = ops.parameter([-1 if batch.is_dynamic else batch.get_length(), *size, 3], np.uint8)
    values = _normalised(photos, package, graph)
    if taken.channels is Channels.BGR:
        values = ops.gather(values, ops.constant([2, 1, 0]), ops.constant(3))
    if taken.layout is Layout.NCHW:
        values = ops.transpose(values, ops.constant(TO_NCHW))
    for target in replaced.output(0).get_target_inputs():
        target.replace_source_output(values.output(0))
    model.add_parameters([photos])
    model.remove_parameter(replaced)
    model.validate_nodes_and_infer_types()
    return photos


def _normalised(photos, package: ModelPackage, graph: Graph):
    """Photos as the network's input takes them, but for the order of axes and colours."""
    from openvino import opset13 as ops

    taken = graph.input
    mean, std = (np.asarray(of, np.float32) * 255 for of in (package.mean, package.std))
    values = ops.divide(ops.subtract(ops.convert(photos, "f32"), mean), std)
    if np.issubdtype(taken.dtype, np.integer):
        if takes_bytes(package):
            return photos
        limits = np.iinfo(taken.dtype)
        values = ops.divide(values, np.float32(taken.scale))
        values = ops.round(ops.add(values, np.float32(taken.zero_point)))
        values = ops.clamp(values, limits.min, limits.max)
    return ops.convert(values, TYPES[taken.dtype])


def _port(model: "openvino.Model", name: str) -> "openvino.Output":
    """The output of a name; of a network that has a single one, this one."""
    found = [port for port in model.outputs if name in port.get_names()]
    if not found and len(model.outputs) > 1:
        raise RuntimeError(f"it has no output {name!r}")
    return (found or model.outputs)[0].get_node().input_value(0)


def _scores(output: "openvino.Output", given: GraphOutput) -> "openvino.Output":
    """Logits of the classes as float32 `(N, h, w, classes)`; class ids stay as they are."""
    from openvino import opset13 as ops

    if given.gives is Gives.CLASS_IDS:
        return output
    values = ops.convert(output, "f32")
    if given.layout is Layout.NCHW:
        values = ops.transpose(values, ops.constant(TO_NHWC))
    if (given.scale, given.zero_point) != (1, 0):
        values = ops.multiply(
            ops.subtract(values, np.float32(given.zero_point)), np.float32(given.scale)
        )
    alone = given.outputs == 1
    if given.gives is Gives.PROBABILITIES:
        if alone:
            values = ops.concat([ops.subtract(np.float32(1), values), values], 3)
        values = ops.log(ops.maximum(values, np.float32(LEAST_PROBABILITY)))
    elif alone:
        values = ops.concat([ops.multiply(values, np.float32(0)), values], 3)
    if not alone and given.channels != tuple(range(given.outputs)):
        values = ops.gather(values, ops.constant(list(given.channels)), ops.constant(3))
    return values.output(0)
