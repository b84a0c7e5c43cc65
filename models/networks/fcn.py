"""FCN-32s, FCN-16s and FCN-8s on VGG-16: the first fully convolutional networks.

Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation" (CVPR 2015).
The encoder is VGG-16 (Simonyan and Zisserman, 2015) with its fully connected layers turned into
convolutions. Spatial detail comes back by adding class scores of pool4 (16s) and pool3 (8s) before
the last upsampling; the upsampling is learnt and starts as bilinear interpolation. Unlike the
original, which pads the photo by 100 pixels and crops, all convolutions keep their size.
"""

import keras
import numpy as np
from keras import layers, ops

from models.networks import scale_channels
from models.networks.resizing import CropLike
from models.networks.vgg16 import VGG16_STAGES, convolve_stage

CLASSIFIER_CHANNELS = 4096
DROPOUT = 0.5


def build_fcn32s(classes: int, width: float = 1.0) -> keras.Model:
    """FCN-32s: class scores at stride 32, upsampled in one step. See `build_fcn8s`."""
    return _build("fcn32s", classes, width, skips=())


def build_fcn16s(classes: int, width: float = 1.0) -> keras.Model:
    """FCN-16s: as FCN-32s, with the scores of pool4 added at stride 16. See `build_fcn8s`."""
    return _build("fcn16s", classes, width, skips=(16,))


def build_fcn8s(
    classes: int, width: float = 1.0, *, batch_normalisation: bool = True
) -> keras.Model:
    """FCN-8s: as FCN-16s, with the scores of pool3 added at stride 8.

    Args:
        classes: number of classes C.
        width: factor on the channels of VGG-16. Those of its two fully connected layers, which hold
            nine tenths of the parameters, shrink with the square of it.
        batch_normalisation: normalise after each 3x3 convolution, which training from scratch
            needs; the paper's network does not and starts from ImageNet weights.

    Returns:
        A model that maps normalised float32 RGB images (N, H, W, 3) to float32 logits
        (N, H, W, C). With 21 classes, width 1 and no batch normalisation it has 134.5 M parameters.
    """
    return _build("fcn8s", classes, width, skips=(16, 8), batch_normalisation=batch_normalisation)


def _build(
    name: str,
    classes: int,
    width: float,
    skips: tuple[int, ...],
    batch_normalisation: bool = True,
) -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    pools = _vgg16(image, width, batch_normalisation)
    x = pools[32]
    channels = scale_channels(CLASSIFIER_CHANNELS, width**2)
    for number, kernel in ((6, 7), (7, 1)):
        x = layers.Conv2D(channels, kernel, padding="same", activation="relu", name=f"fc{number}")(
            x
        )
        x = layers.Dropout(DROPOUT, name=f"drop{number}")(x)
    x = layers.Conv2D(classes, 1, name="score_fc7")(x)
    stride = 32
    for skip in skips:
        x = _upsample(x, classes, stride // skip, like=pools[skip], name=f"upscore_{skip}")
        scores = layers.Conv2D(classes, 1, name=f"score_pool_{skip}")(pools[skip])
        x = layers.Add(name=f"fuse_{skip}")([x, scores])
        stride = skip
    logits = _upsample(x, classes, stride, like=image, name="logits")
    return keras.Model(image, logits, name=name)


def _vgg16(
    x: keras.KerasTensor, width: float, batch_normalisation: bool
) -> dict[int, keras.KerasTensor]:
    """Outputs of the five poolings by stride: 2, 4, 8, 16, 32."""
    pools = {}
    for stage in range(1, len(VGG16_STAGES) + 1):
        x = convolve_stage(x, stage, width, batch_normalisation)
        x = layers.MaxPooling2D(2, padding="same", name=f"pool{stage}")(x)
        pools[2**stage] = x
    return pools


def _upsample(
    x: keras.KerasTensor, classes: int, factor: int, like: keras.KerasTensor, name: str
) -> keras.KerasTensor:
    x = layers.Conv2DTranspose(
        classes, 2 * factor, factor, padding="same", use_bias=False, dtype="float32",
        kernel_initializer=BilinearInitializer(), name=f"{name}_deconv",
    )(x)  # fmt: skip
    return CropLike(name=name)(x, like)


class BilinearInitializer(keras.initializers.Initializer):
    """Initialises a transposed convolution as bilinear interpolation of each class.

    For kernels (2f, 2f, C, C) of stride f (Long et al. 2015, section 3.3).
    """

    def __call__(self, shape, dtype=None):
        size, _, outputs, inputs = shape
        factor = (size + 1) // 2
        center = factor - 1 if size % 2 == 1 else factor - 0.5
        ramp = 1 - np.abs(np.arange(size) - center) / factor
        kernel = np.zeros(shape, np.float32)
        for channel in range(min(outputs, inputs)):
            kernel[:, :, channel, channel] = np.outer(ramp, ramp)
        return ops.cast(kernel, dtype or keras.config.floatx())
