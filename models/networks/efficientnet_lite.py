"""EfficientNet-Lite0: an image encoder of operations that accelerators run fast.

The network is the EfficientNet-B0 of Tan and Le, "EfficientNet: Rethinking Model Scaling for
Convolutional Neural Networks" (ICML 2019), in its Lite variant: no squeeze-and-excitation, ReLU6
instead of Swish, and a stem and last stage that keep their size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from models.networks import scale_channels

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of RGB / 255 that the ImageNet weights expect."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of RGB / 255 that the ImageNet weights expect."""

BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.99


class Stage(NamedTuple):
    """`repeats` inverted residual blocks; the first of them changes stride and channels."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STEM_CHANNELS = 32
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
BLOCK_COUNT = sum(stage.repeats for stage in STAGES)

SKIP_CONNECTIONS = {
    2: "block_0_output",
    4: "block_2_output",
    8: "block_4_output",
    16: "block_10_output",
    32: "block_15_output",
}
"""Name of the last layer at each output stride."""

CLASSIFIER_KEYS = frozenset(
    ["_conv_head.weight", "_fc.weight", "_fc.bias"]
    + [f"_bn1.{field}" for field in ("weight", "bias", "running_mean", "running_var")]
)
"""Keys of the classification head in an ImageNet checkpoint; they are not loaded."""


def encode(image: keras.KerasTensor, width: float = 1.0) -> dict[int, keras.KerasTensor]:
    """Build the encoder; return its feature maps by output stride (2, 4, 8, 16, 32).

    Args:
        image: float32 (N, H, W, 3), normalised; H and W multiples of 32.
        width: factor on every channel count; ImageNet weights exist for 1.0 only.
    """
    x = layers.Conv2D(
        scale_channels(STEM_CHANNELS, width), 3, 2, padding="same", use_bias=False, name="stem_conv"
    )(image)
    x = layers.ReLU(6.0, name="stem_relu")(_batch_norm("stem_bn")(x))
    outputs = {}
    index = 0
    for stage in STAGES:
        for repeat in range(stage.repeats):
            block = stage if repeat == 0 else stage._replace(stride=1)
            x = _inverted_residual(x, block, width, f"block_{index}")
            outputs[f"block_{index}_output"] = x
            index += 1
    return {stride: outputs[name] for stride, name in SKIP_CONNECTIONS.items()}


def _batch_norm(name: str) -> layers.BatchNormalization:
    return layers.BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name
    )


def _inverted_residual(
    x: keras.KerasTensor, block: Stage, width: float, name: str
) -> keras.KerasTensor:
    """Expand by a 1x1, filter by a depthwise and project by a linear 1x1 convolution."""
    channels_in, channels_out = x.shape[-1], scale_channels(block.channels, width)
    shortcut = x
    if block.expansion > 1:
        x = layers.Conv2D(
            channels_in * block.expansion, 1, use_bias=False, name=f"{name}_expand_conv"
        )(x)
        x = layers.ReLU(6.0, name=f"{name}_expand_relu")(_batch_norm(f"{name}_expand_bn")(x))
    x = layers.DepthwiseConv2D(
        block.kernel,
        block.stride,
        padding="same",
        use_bias=False,
        name=f"{name}_depthwise_conv",
    )(x)
    x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(_batch_norm(f"{name}_depthwise_bn")(x))
    x = layers.Conv2D(channels_out, 1, use_bias=False, name=f"{name}_project_conv")(x)
    if block.stride == 1 and channels_in == channels_out:
        x = _batch_norm(f"{name}_project_bn")(x)
        return layers.Add(name=f"{name}_output")([shortcut, x])
    return _batch_norm(f"{name}_output")(x)


def load_imagenet_weights(network: keras.Model, path: str | Path) -> None:
    """Copy ImageNet weights into the encoder layers of `network`.

    The network then expects RGB input as (x / 255 - mean) / std with ImageNet's mean and std.

    Args:
        network: a network whose encoder is that of `encode`.
        path: an `.npz` file with the tensors of PyTorch's `efficientnet_lite0` under their PyTorch
            keys (`_conv_stem.weight`, `_blocks.0._depthwise_conv.weight`, `_blocks.0._bn1.bias`,
            ...).

    Raises:
        ValueError: a tensor is missing, unknown or of another shape than the layer's weight;
            nothing is copied.
    """
    with np.load(path) as archive:
        tensors = {
            key: archive[key] for key in archive.files if not key.endswith("num_batches_tracked")
        }
    sources = _weight_sources(network)
    expected = {key for keys in sources.values() for key in keys}
    missing = sorted(expected - tensors.keys())
    unexpected = sorted(tensors.keys() - expected - CLASSIFIER_KEYS)
    if missing or unexpected:
        raise ValueError(
            f"{path} is not an EfficientNet-Lite0 checkpoint: missing {_shortened(missing)}, "
            f"unexpected {_shortened(unexpected)}. Convert the PyTorch state_dict with its keys "
            "unchanged."
        )
    values = {
        name: [_to_keras_layout(tensors[key]) for key in keys] for name, keys in sources.items()
    }
    for name, arrays in values.items():
        shapes = [tuple(weight.shape) for weight in network.get_layer(name).weights]
        found = [array.shape for array in arrays]
        if found != shapes:
            raise ValueError(
                f"{path}: tensors {', '.join(sources[name])} have shapes {found}, but layer "
                f"{name} holds {shapes}. ImageNet weights fit width 1.0 only."
            )
    for name, arrays in values.items():
        network.get_layer(name).set_weights(arrays)


def _weight_sources(network: keras.Model) -> Mapping[str, tuple[str, ...]]:
    """PyTorch keys of each layer's weights, in the order of `layer.get_weights()`."""

    def batch_norm(key: str) -> tuple[str, ...]:
        return tuple(
            f"{key}.{field}" for field in ("weight", "bias", "running_mean", "running_var")
        )

    names = {layer.name for layer in network.layers}
    sources: dict[str, tuple[str, ...]] = {
        "stem_conv": ("_conv_stem.weight",),
        "stem_bn": batch_norm("_bn0"),
    }
    for index in range(BLOCK_COUNT):
        layer, key = f"block_{index}", f"_blocks.{index}"
        if f"{layer}_expand_conv" in names:
            sources[f"{layer}_expand_conv"] = (f"{key}._expand_conv.weight",)
            sources[f"{layer}_expand_bn"] = batch_norm(f"{key}._bn0")
        sources[f"{layer}_depthwise_conv"] = (f"{key}._depthwise_conv.weight",)
        sources[f"{layer}_depthwise_bn"] = batch_norm(f"{key}._bn1")
        sources[f"{layer}_project_conv"] = (f"{key}._project_conv.weight",)
        residual = f"{layer}_project_bn" in names
        sources[f"{layer}_project_bn" if residual else f"{layer}_output"] = batch_norm(
            f"{key}._bn2"
        )
    return sources


def _to_keras_layout(tensor: np.ndarray) -> np.ndarray:
    """Transpose OIHW to HWIO and a depthwise kernel (C, 1, H, W) to (H, W, C, 1); keep vectors."""
    if tensor.ndim != 4:
        return tensor
    depthwise = tensor.shape[1] == 1
    return tensor.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))


def _shortened(keys: list[str], limit: int = 5) -> str:
    if not keys:
        return "nothing"
    rest = len(keys) - limit
    return ", ".join(keys[:limit]) + (f" and {rest} more" if rest > 0 else "")
