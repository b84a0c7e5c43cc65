"""EfficientNet-Lite0 with a light feature pyramid: the fast default for street scenes.

The encoder is EfficientNet-Lite0 (Tan and Le, "EfficientNet: Rethinking Model Scaling for
Convolutional Neural Networks", ICML 2019). The decoder is a feature pyramid (Lin et al., "Feature
Pyramid Networks for Object Detection", CVPR 2017; used for segmentation by Kirillov et al.,
"Panoptic Feature Pyramid Networks", CVPR 2019) of depthwise separable convolutions. The coarsest
level adds context by dilated convolutions and a global average, as in Chen et al.,
"Rethinking Atrous Convolution for Semantic Image Segmentation" (2017).
"""

from __future__ import annotations

import keras
from keras import layers

from models.networks import scale_channels
from models.networks.efficientnet_lite import encode
from models.networks.resizing import BilinearUpSampling2D

PYRAMID_CHANNELS = 96
CONTEXT_DILATIONS = (1, 3, 6)


def build(classes: int, width: float = 1.0) -> keras.Model:
    """Build the network for photos whose height and width are multiples of 32.

    Args:
        classes: number of classes C.
        width: factor on every channel count.

    Returns:
        A model that maps normalised float32 RGB images (N, H, W, 3) to float32 logits
        (N, H / 4, W / 4, C).
    """
    image = keras.Input((None, None, 3), name="image")
    features = encode(image, width)
    channels = scale_channels(PYRAMID_CHANNELS, width)
    x = _context(features[32], channels)
    for stride in (16, 8, 4):
        x = BilinearUpSampling2D(name=f"pyramid_{stride}_upsample")(x)
        lateral = _conv(features[stride], channels, f"lateral_{stride}", activate=False)
        x = layers.Add(name=f"pyramid_{stride}_add")([x, lateral])
        x = _separable_conv(x, channels, f"pyramid_{stride}")
    x = _separable_conv(x, channels, "head")
    logits = layers.Conv2D(classes, 1, dtype="float32", name="logits")(x)
    return keras.Model(image, logits, name="efficientnet_fpn")


def _context(x: keras.KerasTensor, channels: int) -> keras.KerasTensor:
    """Sum of dilated depthwise convolutions and the image-wide mean, mixed by a 1x1 convolution."""
    x = _conv(x, channels, "context_reduce")
    branches = [x]
    for dilation in CONTEXT_DILATIONS:
        name = f"context_dilation_{dilation}"
        branch = layers.DepthwiseConv2D(
            3, padding="same", dilation_rate=dilation, use_bias=False, name=f"{name}_conv"
        )(x)
        branches.append(layers.BatchNormalization(name=f"{name}_bn")(branch))
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="context_mean")(x)
    branches.append(layers.Conv2D(channels, 1, name="context_mean_conv")(mean))
    x = layers.ReLU(name="context_relu")(layers.Add(name="context_add")(branches))
    return _conv(x, channels, "context_mix")


def _separable_conv(x: keras.KerasTensor, channels: int, name: str) -> keras.KerasTensor:
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_depthwise_conv")(x)
    x = layers.ReLU(name=f"{name}_depthwise_relu")(
        layers.BatchNormalization(name=f"{name}_depthwise_bn")(x)
    )
    return _conv(x, channels, f"{name}_pointwise")


def _conv(
    x: keras.KerasTensor, channels: int, name: str, *, activate: bool = True
) -> keras.KerasTensor:
    x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if activate else x
