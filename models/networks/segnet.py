"""SegNet: an encoder and a decoder that upsamples with the indices of the max pooling.

Badrinarayanan, Kendall and Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for
Image Segmentation" (2015, IEEE TPAMI 2017). The encoder is the 13 convolutions of VGG-16; each
2x2 max pooling passes its indices to the unpooling at the same depth of the decoder, which mirrors
the encoder. Every convolution but the last is followed by batch normalisation and ReLU.
"""

import keras
from keras import layers

from models.networks import scale_channels
from models.networks.resizing import CropLike
from models.networks.unpooling import MaxPoolWithIndices, MaxUnpool
from models.networks.vgg16 import VGG16_STAGES, convolve_stage


def build(classes: int, width: float = 1.0, *, index_unpooling: bool = True) -> keras.Model:
    """Build the network for photos of any size.

    Args:
        classes: number of classes C.
        width: factor on the channels of VGG-16.
        index_unpooling: False upsamples without the pooling indices, to measure what they bring.

    Returns:
        A model that maps normalised float32 RGB images (N, H, W, 3) to float32 logits
        (N, H, W, C).
    """
    image = keras.Input((None, None, 3), name="image")
    x = image
    poolings = []
    for stage in range(1, len(VGG16_STAGES) + 1):
        full = x = convolve_stage(x, stage, width)
        x, indices = MaxPoolWithIndices(name=f"pool{stage}")(x)
        poolings.append((full, indices))
    for stage in range(len(VGG16_STAGES), 0, -1):
        repeats, channels = VGG16_STAGES[stage - 1]
        full, indices = poolings[stage - 1]
        if index_unpooling:
            x = MaxUnpool(name=f"unpool{stage}")(x, indices, full)
        else:
            x = layers.UpSampling2D(2, name=f"upsample{stage}")(x)
            x = CropLike(name=f"crop{stage}")(x, full)
        following = VGG16_STAGES[stage - 2][1] if stage > 1 else channels
        for index in range(repeats, 0, -1):
            if stage == 1 and index == 1:
                break
            wide = channels if index > 1 else following
            x = _conv(x, scale_channels(wide, width), f"decoder{stage}_{index}")
    logits = layers.Conv2D(classes, 3, padding="same", dtype="float32", name="logits")(x)
    return keras.Model(image, logits, name="segnet")


def _conv(x: keras.KerasTensor, channels: int, name: str) -> keras.KerasTensor:
    x = layers.Conv2D(
        channels, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
