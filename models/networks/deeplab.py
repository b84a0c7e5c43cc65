"""DeepLab-LargeFOV: dilated convolutions replace the last downsampling steps.

Chen, Papandreou, Kokkinos, Murphy and Yuille, "Semantic Image Segmentation with Deep Convolutional
Nets and Fully Connected CRFs" (ICLR 2015; "DeepLab", IEEE TPAMI 2017, section 3.1), on VGG-16. The
fourth and fifth pooling have stride 1, and the convolutions after them are dilated to keep their
receptive field. The first fully connected layer is a 3x3 convolution of dilation 12.
The conditional random field of the paper is left out.
"""

import keras
from keras import layers

from models.networks import scale_channels
from models.networks.vgg16 import VGG16_STAGES, convolve_stage

CLASSIFIER_CHANNELS = 1024
CLASSIFIER_DILATION = 12
DILATIONS = {5: 2}
"""Dilation of the convolutions, by stage of VGG-16; 1 in all other stages."""

DROPOUT = 0.5


def build(classes: int, width: float = 1.0) -> keras.Model:
    """Build the network for photos of any size.

    Args:
        classes: number of classes C.
        width: factor on the channels of VGG-16 and its classifier.

    Returns:
        A model that maps normalised float32 RGB images (N, H, W, 3) to float32 logits
        (N, ceil(H / 8), ceil(W / 8), C).
    """
    image = keras.Input((None, None, 3), name="image")
    x = image
    for stage in range(1, len(VGG16_STAGES) + 1):
        x = convolve_stage(x, stage, width, False, DILATIONS.get(stage, 1))
        strides = 2 if stage <= 3 else 1
        x = layers.MaxPooling2D(3, strides, padding="same", name=f"pool{stage}")(x)
    channels = scale_channels(CLASSIFIER_CHANNELS, width)
    for name, kernel, dilation in (("fc6", 3, CLASSIFIER_DILATION), ("fc7", 1, 1)):
        x = layers.Conv2D(
            channels, kernel, padding="same", dilation_rate=dilation, activation="relu", name=name
        )(x)
        x = layers.Dropout(DROPOUT, name=f"{name}_dropout")(x)
    logits = layers.Conv2D(classes, 1, dtype="float32", name="logits")(x)
    return keras.Model(image, logits, name="deeplab_largefov")
