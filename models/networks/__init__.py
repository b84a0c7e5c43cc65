"""Segmentation networks by name, all built by functions of the same signature.

Each architecture is a function `build(classes, width=1.0) -> keras.Model`. Its module is imported
when a network is built, so that reading a model's description does not import Keras.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

ARCHITECTURES = {
    "deeplab_largefov": "models.networks.deeplab:build",
    "efficientnet_fpn": "models.networks.efficientnet_fpn:build",
    "fcn16s": "models.networks.fcn:build_fcn16s",
    "fcn32s": "models.networks.fcn:build_fcn32s",
    "fcn8s": "models.networks.fcn:build_fcn8s",
    "segnet": "models.networks.segnet:build",
    "unet": "models.networks.unet:build",
}
"""Name of each architecture and the function that builds it, as `module:function`."""

FIRST_CHANNELS = {
    "deeplab_largefov": 64,
    "efficientnet_fpn": 32,
    "fcn16s": 64,
    "fcn32s": 64,
    "fcn8s": 64,
    "segnet": 64,
    "unet": 64,
}
"""Channels of the first convolution, at width 1, by which a wrong width shows before Keras is
imported. An architecture that is not listed is checked when its network is built."""


def scale_channels(channels: int, width: float) -> int:
    """Channels times `width`, rounded to a multiple of 8 and never below 8."""
    return max(8, int(channels * width + 4) // 8 * 8)


def build_network(architecture: str, classes: int, width: float = 1.0) -> "keras.Model":
    """Build a network with initial weights, for photos whose sides are multiples of 32.

    Args:
        architecture: a key of `ARCHITECTURES`.
        classes: number of classes.
        width: factor on the channels.

    Returns:
        A model that maps normalised float32 RGB images (N, H, W, 3) to float32 logits
        (N, h, w, classes).

    Raises:
        ValueError: the architecture is unknown, or the classes or the width are not positive.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"unknown architecture {architecture!r}; available: {', '.join(sorted(ARCHITECTURES))}"
        )
    if classes < 1:
        raise ValueError(f"a network needs at least one class, found {classes}")
    if not width > 0:
        raise ValueError(f"width must be greater than 0, found {width}")
    return resolve_name(ARCHITECTURES[architecture])(classes, width=width)
