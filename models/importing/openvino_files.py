"""OpenVINO's intermediate representation (IR): an .xml file, and a .bin file with its weights.

It is data, no code: operations that OpenVINO does not know come from libraries, which are not
loaded. It may state in `model_info` what OpenVINO's Model API needs to run it
(https://docs.openvino.ai/, `rt_info`); a network that prepares photos itself is fed as it is.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax import SAXException
from xml.sax.handler import ContentHandler

from models.engines.conversion import import_openvino
from models.graphs import SUFFIXES, Channels, Format, Gives, Resize
from models.importing.origins import MASK_AXES, Origin, decisive, of_outputs
from models.importing.sizes import Shape, check_elements
from models.importing.sources import Fact, Facts, ModelImportError, Port, Source
from models.texts import one_line
from models.weight_files import MAX_BYTES

if TYPE_CHECKING:
    import openvino

FILES = ("network.xml", "network.bin")
"""Names of the files in a package."""

MAX_XML_BYTES = 16 << 20
"""Largest .xml file; OpenVINO takes some 25 times its bytes. Networks have less than 1 MiB."""

GRAPH, MODEL_INFO = "the graph", "model_info"
"""Sources of facts; the latter is also the element of `rt_info` that holds them."""

SNIFFED_BYTES = 1 << 10
"""Bytes at the start of an .xml file within which the network begins."""

RESIZES = {
    "standard": Resize.STRETCH,
    "fit_to_window": Resize.PAD,
    "fit_to_window_letterbox": Resize.PAD,
}
"""How photos are resized, by the Model API's name of it."""

TRUE = ("YES", "TRUE", "1")

QUANTISING = "FakeQuantize"
"""The operation that rounds values to the levels of an integer."""

TYPES = {
    **{"f16": "float16", "f32": "float32", "f64": "float64", "boolean": "bool"},
    **{"i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64"},
    **{"u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64"},
}
"""NumPy's names of the types that inputs and outputs may have."""

HALVES = ("f16", "bf16")


def matches(path: Path) -> bool:
    """Whether this is the .xml file of an IR, by its name and beginning."""
    if path.suffix.lower() != SUFFIXES[Format.OPENVINO][0] or not path.is_file():
        return False
    with path.open("rb") as file:
        return b"<net" in file.read(SNIFFED_BYTES)


def read(path: Path) -> Source:
    """Read a network from its .xml file and the .bin file beside it.

    Raises:
        ModelImportError: a file is missing, damaged or too large, or OpenVINO does not know an
            operation.
    """
    weights = path.with_suffix(SUFFIXES[Format.OPENVINO][1])
    if not weights.is_file():
        raise ModelImportError(f"{path}: no {weights.name} with its weights: put it beside")
    for file, most in ((path, MAX_XML_BYTES), (weights, MAX_BYTES)):
        if file.stat().st_size > most:
            raise ModelImportError(f"{file}: {file.stat().st_size} bytes, expected {most} at most")
    text, values = path.read_bytes(), weights.read_bytes()
    stated = _parse(text, path)
    if stated.end != len(values):
        raise ModelImportError(
            f"{weights}: {len(values)} bytes, expected {stated.end} by {path.name}: it is damaged "
            "or of another network"
        )
    model = _model(text, values, path)
    return Source(
        format=Format.OPENVINO,
        precision=_precision(model),
        files=dict(zip(FILES, (text, values), strict=True)),
        inputs=tuple(_port(port, path) for port in model.inputs),
        outputs=tuple(_port(port, path) for port in model.outputs),
        facts=Facts(**of_outputs(_origins(model), GRAPH), **_model_info(stated.model_info)),
    )


class _Stated(ContentHandler):
    """What the elements of an IR state.

    Attributes:
        end: bytes of weights that it refers to.
        model_info: texts by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.end = 0
        self.model_info: dict[str, str] = {}
        self._open: list[str] = []

    def startElement(self, name, attributes):  # noqa: N802 - the name that SAX calls.
        """Note the attributes of an element."""
        if self._open[-2:] == ["rt_info", MODEL_INFO]:
            self.model_info[name] = attributes.get("value", "")
        if name == "data" and "offset" in attributes and "size" in attributes:
            self.end = max(self.end, int(attributes["offset"]) + int(attributes["size"]))
        self._open.append(name)

    def endElement(self, name):  # noqa: N802 - the name that SAX calls.
        """Leave an element."""
        self._open.pop()


def _parse(text: bytes, path: Path) -> _Stated:
    """Read what an .xml file states, in little memory and without its entities."""
    from defusedxml import DefusedXmlException, sax

    stated = _Stated()
    try:
        sax.parseString(text, stated, forbid_dtd=True)
    except DefusedXmlException:
        raise ModelImportError(
            f"{path}: it defines a document type or entities, which no IR does: refused"
        ) from None
    except (SAXException, ValueError) as error:
        reason = one_line(error)
        raise ModelImportError(f"{path}: no IR, damaged or cut short ({reason})") from error
    return stated


def _model(text: bytes, values: bytes, path: Path) -> "openvino.Model":
    """Read the model from memory, so that no other file is read."""
    import_openvino()
    import numpy as np
    import openvino

    try:
        tensor = openvino.Tensor(np.frombuffer(values, np.uint8))
        model = openvino.Core().read_model(text, tensor)
    except Exception as error:  # Its readers raise many types of errors.
        reason = one_line(error)
        raise ModelImportError(f"{path}: OpenVINO cannot read it: {reason}") from error
    for operation in model.get_ops():
        for output in operation.outputs():
            check_elements(operation.get_friendly_name(), _shape(output), path)
    return model


def _shape(output: "openvino.Output") -> Shape:
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic:
        return ()
    return tuple(size.get_length() if size.is_static else None for size in shape)


def _port(port: "openvino.Output", path: Path) -> Port:
    name = min(port.get_names(), default=port.get_node().get_friendly_name())
    kind = port.get_element_type().get_type_name()
    if kind not in TYPES:
        raise ModelImportError(
            f"{path}: the elements of {name!r} are of the type {kind}, expected one of "
            f"{', '.join(TYPES)}: export it with such inputs and outputs"
        )
    return Port(name, TYPES[kind], _shape(port))


def _precision(model: "openvino.Model") -> str:
    """What most elements of the weights are in, or int8 if they are rounded to integers."""
    elements = {"f16": 0, "f32": 0}
    for operation in model.get_ops():
        if operation.get_type_name() == QUANTISING:
            return "int8"
        if operation.get_type_name() == "Constant":
            is_half = operation.get_element_type().get_type_name() in HALVES
            elements["f16" if is_half else "f32"] += math.prod(operation.get_output_shape(0))
    return max(("f32", "f16"), key=lambda precision: elements[precision])


def _origins(model: "openvino.Model") -> list[Origin | None]:
    """What is known of each output that may be a mask."""
    return [_origin(port) for port in model.outputs if len(_shape(port)) >= MASK_AXES]


def _origin(port: "openvino.Output") -> Origin | None:
    nodes = list(_backwards(port.get_node()))
    found = decisive(node.get_type_name() for node in nodes)
    if not found:
        return None
    place, gives = found
    if gives is not Gives.CLASS_IDS:
        return Origin(gives)
    chooser = nodes[place]
    shape, axis = _shape(chooser.input_value(0)), chooser.get_attributes()["axis"]
    return Origin(gives, shape[axis] if -len(shape) <= axis < len(shape) else None)


def _backwards(node: "openvino.Node") -> Iterator["openvino.Node"]:
    """An operation and those that its first input comes from."""
    yield node
    while node.get_input_size():
        node = node.input_value(0).get_node()
        yield node


def _model_info(stated: dict[str, str]) -> dict[str, Fact[Any]]:
    """The fields of `Facts` that the Model API's entries state."""
    found: dict[str, Any] = {
        "class_names": tuple(stated.get("labels", "").split()),
        "resize": RESIZES.get(stated.get("resize_type", "")),
    }
    if stated.get("embedded_processing", "").upper() not in TRUE:
        mean, std = (_numbers(stated.get(key, "")) for key in ("mean_values", "scale_values"))
        if (mean or std) and min(std or (1,)) > 0:
            found["mean"] = tuple(value / 255 for value in mean or (0, 0, 0))
            found["std"] = tuple(value / 255 for value in std or (1, 1, 1))
        # Photos come as BGR in the Model API's convention, but many networks that want RGB state
        # that nothing is reversed: only the reverse tells something.
        if stated.get("reverse_input_channels", "").upper() in TRUE:
            found["channels"] = Channels.RGB
    return {key: Fact(value, MODEL_INFO) for key, value in found.items() if value}


def _numbers(text: str) -> tuple[float, ...] | None:
    """Three finite numbers from a text, or one for all channels; None where it is neither."""
    try:
        values = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        return None
    values = values * 3 if len(values) == 1 else values
    return tuple(values) if len(values) == 3 and all(abs(value) < 1e6 for value in values) else None
