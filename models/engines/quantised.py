"""Networks in 8-bit integers, as packages hold them: OpenVINO IRs made by `citymask quantise`."""

from typing import TYPE_CHECKING

import numpy as np

from models.engines.conversion import import_openvino
from models.packages import INT8, ModelPackage, PackageError
from models.texts import one_line

if TYPE_CHECKING:
    import openvino

_QUANTISE = "FakeQuantize"
"""OpenVINO's operation that rounds values to the levels of an integer."""


def int8_model(package: ModelPackage) -> "openvino.Model":
    """Read the int8 network of a package.

    It maps uint8 photos `(N, h, w, 3)` to float32 logits. Their number and size are open, unless an
    imported network takes one size only.

    Raises:
        PackageError: the package has none, or it is damaged or does not fit the description.
    """
    network = package.network_in(INT8)
    if network is None:
        raise PackageError(f"{package.name} has no {INT8} network: `citymask quantise` makes one")
    text, weights = package.read_files(network)
    import_openvino()
    import openvino

    file = package.path / next(iter(network.files))
    try:
        values = openvino.Tensor(np.frombuffer(weights, np.uint8))
        model = openvino.Core().read_model(text, values)
        found = [_describe(model.input(), 3), _describe(model.output(), 1)]
    except RuntimeError as error:
        reason = one_line(error)
        raise _misfit(file, f"OpenVINO cannot read it ({reason})") from error
    photos = "?,?" if package.input_size.open else ",".join(map(str, package.nominal_shape))
    expected = [f"u8 [..,{photos},3]", f"f32 [..,{len(package.classes)}]"]
    if found != expected:
        raise _misfit(file, f"found {' -> '.join(found)}, expected {' -> '.join(expected)}")
    return model


def _describe(port: "openvino.Output", axes: int) -> str:
    """Type and the last sizes of an input or output; `?` for a size that is left open."""
    shape = list(port.partial_shape)[-axes:]
    sizes = ",".join("?" if size.is_dynamic else str(size) for size in shape)
    return f"{port.element_type.get_type_name()} [..,{sizes}]"


def float_twin(model: "openvino.Model") -> "openvino.Model":
    """The same network without rounding, as fast as the one it was made of, for measurements only.

    Its weights are the rounded ones, so its masks are not those of the network it was made of.
    """
    twin = model.clone()
    for operation in twin.get_ordered_ops():
        if operation.get_type_name() == _QUANTISE:
            for target in operation.output(0).get_target_inputs():
                target.replace_source_output(operation.input_value(0))
    twin.validate_nodes_and_infer_types()
    return twin


def _misfit(file, reason: str) -> PackageError:
    return PackageError(
        f"{file}: not the {INT8} network of this package: {reason}; make it again with "
        "`citymask quantise`"
    )
