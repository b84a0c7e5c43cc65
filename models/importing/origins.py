"""What an output of a network is, by the operations that it comes from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from models.graphs import Gives
from models.importing.sources import Fact

MASK_AXES = 3
"""Fewest axes of an output that holds something for each pixel of a photo."""

_UNCHANGED = frozenset(
    {
        *("Cast", "CastLike", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"),
        *("DequantizeLinear", "QuantizeLinear"),
        *("DepthToSpace", "Pad", "Resize", "Slice", "Split", "StridedSlice", "Upsample"),
        *("Convert", "ConvertLike", "FakeQuantize", "Interpolate", "Result", "VariadicSplit"),
    }
)
"""Operations of ONNX and OpenVINO whose result is what their first argument is."""

_GIVES = {
    **dict.fromkeys(["ArgMax", "TopK"], Gives.CLASS_IDS),
    **dict.fromkeys(
        ["Sigmoid", "SoftMax", "Softmax", "QLinearSigmoid", "QLinearSoftmax"], Gives.PROBABILITIES
    ),
    **dict.fromkeys(
        [
            *("Add", "BatchNormalization", "Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"),
            *("LogSoftmax", "QLinearAdd", "QLinearConv"),
            *("Convolution", "ConvolutionBackpropData", "GroupConvolution"),
        ],
        Gives.LOGITS,
    ),
}


@dataclass(frozen=True)
class Origin:
    """What is known of an output.

    Attributes:
        gives: what it is.
        outputs: the number of class ids that an argmax chooses from; None if not known.
    """

    gives: Gives
    outputs: int | None = None


def of_outputs(origins: Sequence[Origin | None], source: str) -> dict[str, Fact[Any]]:
    """The fields of `Facts` that all outputs agree on; none if they differ."""
    if len(set(origins)) != 1 or not (origin := origins[0]):
        return {}
    found: dict[str, Fact[Any]] = {"gives": Fact(origin.gives, source)}
    if origin.outputs:
        found["outputs"] = Fact(origin.outputs, source)
    return found


def decisive(operations: Iterable[str]) -> tuple[int, Gives] | None:
    """Find the operation that tells what an output is.

    Args:
        operations: names of types, from the output back along first arguments.

    Returns:
        Its place among them and what the output is; None if none tells.
    """
    for place, name in enumerate(operations):
        if name in _GIVES:
            return place, _GIVES[name]
        if name not in _UNCHANGED:
            return None
    return None
