"""What an output of a network is, by the operations that it comes from."""

from collections.abc import Iterable

from models.graphs import Gives

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
