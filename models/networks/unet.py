"""U-Net: a contracting and an expanding path, joined by skip connections at every resolution.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation"
(MICCAI 2015): two 3x3 convolutions per level, channels doubled at each pooling, 2x2 transposed
convolutions back up, and the encoder's feature maps concatenated. The paper's network has no batch
normalisation and unpadded convolutions, and so returns a smaller map than its input.
"""

from typing import Literal

import keras
from keras import layers

from models.networks import scale_channels
from models.networks.resizing import CropLike

LEVEL_CHANNELS = (64, 128, 256, 512, 1024)
DROPOUT = 0.5


def build(
    classes: int,
    width: float = 1.0,
    *,
    batch_normalisation: bool = True,
    padding: Literal["same", "valid"] = "same",
    skips: bool = True,
) -> keras.Model:
    """Build the network for photos of any size.

    Args:
        classes: number of classes C.
        width: factor on the channels of every level.
        batch_normalisation: normalise after each 3x3 convolution; the paper's network does not.
        padding: `same` keeps the size. The paper's `valid` gives logits of the centre only, and
            needs a size that is even before each pooling, such as 572.
        skips: False leaves out the skip connections, to measure what they bring.

    Returns:
        A model that maps normalised float32 RGB images (N, H, W, 3) to float32 logits
        (N, H, W, C).
    """

    def convolutions(x: keras.KerasTensor, channels: int, name: str) -> keras.KerasTensor:
        for index in (1, 2):
            x = layers.Conv2D(
                channels,
                3,
                padding=padding,
                use_bias=not batch_normalisation,
                kernel_initializer="he_normal",
                name=f"{name}_conv_{index}",
            )(x)
            if batch_normalisation:
                x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn_{index}")(x)
            x = layers.ReLU(name=f"{name}_relu_{index}")(x)
        return x

    image = keras.Input((None, None, 3), name="image")
    x = image
    levels = []
    for level, channels in enumerate(LEVEL_CHANNELS, start=1):
        if level > 1:
            x = layers.MaxPooling2D(2, padding=padding, name=f"pool_{level - 1}")(x)
        x = convolutions(x, scale_channels(channels, width), f"encoder_{level}")
        levels.append(x)
    x = layers.Dropout(DROPOUT, name="dropout")(x)
    for level in range(len(LEVEL_CHANNELS) - 1, 0, -1):
        channels = scale_channels(LEVEL_CHANNELS[level - 1], width)
        skip = levels[level - 1]
        x = layers.Conv2DTranspose(channels, 2, 2, name=f"decoder_{level}_up")(x)
        if padding == "same":
            x = CropLike(name=f"decoder_{level}_crop")(x, skip)
        else:
            skip = CropLike(centered=True, name=f"skip_{level}_crop")(skip, x)
        if skips:
            x = layers.Concatenate(name=f"decoder_{level}_concat")([skip, x])
        x = convolutions(x, channels, f"decoder_{level}")
    logits = layers.Conv2D(classes, 1, dtype="float32", name="logits")(x)
    return keras.Model(image, logits, name="unet")
