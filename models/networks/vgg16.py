"""The convolutions of VGG-16, the encoder of the classic networks here.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (ICLR
2015), configuration D. The layers have the same names in all networks, so that a network can start
from the encoder of another.
"""

import keras
from keras import layers

from models.networks import scale_channels

VGG16_STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""Convolutions and channels of each stage, before its 2x2 max pooling."""


def convolve_stage(
    x: keras.KerasTensor,
    stage: int,
    width: float,
    batch_normalisation: bool = True,
    dilation: int = 1,
) -> keras.KerasTensor:
    """Add the 3x3 convolutions of a stage, each with ReLU; height and width stay.

    Args:
        x: the stage's input, (N, H, W, C).
        stage: 1 to 5.
        width: factor on the channels.
        batch_normalisation: whether each convolution has batch normalisation instead of a bias.
        dilation: of the convolutions.
    """
    repeats, channels = VGG16_STAGES[stage - 1]
    for index in range(1, repeats + 1):
        name = f"conv{stage}_{index}"
        x = layers.Conv2D(
            scale_channels(channels, width),
            3,
            padding="same",
            dilation_rate=dilation,
            use_bias=not batch_normalisation,
            kernel_initializer="he_normal",
            name=name,
        )(x)
        if batch_normalisation:
            x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
    return x
