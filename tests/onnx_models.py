"""Small ONNX networks for tests: one convolution with weights that are always the same."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES, STRIDE = 3, 4
OPSETS = (helper.make_opsetid("", 17),)


def kernel(classes: int = CLASSES, scale: float = 1.0) -> np.ndarray:
    shape = (classes, 3, STRIDE, STRIDE)
    return np.random.default_rng(3).normal(0, scale, shape).astype(np.float32)


def convolution(**arguments) -> onnx.NodeProto:
    return helper.make_node(
        "Conv", ["photo", "kernel"], ["scores"], strides=[STRIDE] * 2, **arguments
    )


def segmenting(
    *after: onnx.NodeProto,
    output: str = "scores",
    dtype: int = TensorProto.FLOAT,
    shape: Sequence[int | str] = ("N", CLASSES, "h", "w"),
    photo: Sequence[int | str] = ("N", 3, "H", "W"),
    weights: np.ndarray | None = None,
    initializers: Sequence[onnx.TensorProto] = (),
    **metadata: str,
) -> onnx.ModelProto:
    """A network of a convolution that gives `scores`, and of what comes after it.

    Its input is `photo`, float32 NCHW; `kernel` is its only weight.
    """
    weights = kernel() if weights is None else weights
    kind = helper.np_dtype_to_tensor_dtype(weights.dtype)
    graph = helper.make_graph(
        [convolution(), *after],
        "segmenting",
        [helper.make_tensor_value_info("photo", kind, photo)],
        [helper.make_tensor_value_info(output, dtype, shape)],
        [numpy_helper.from_array(weights, "kernel"), *initializers],
    )
    model = helper.make_model(graph, producer_name="tests", ir_version=8, opset_imports=OPSETS)
    helper.set_model_props(model, metadata)
    return model
