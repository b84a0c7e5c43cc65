"""Segmentation networks by name, all built by one constructor signature.

Each module of this package holds one architecture, built by a function
`build(classes, input_shape=(None, None, 3), width=1.0) -> keras.Model`. They are imported when a
network is built, so that reading a model's description does not import Keras.
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
    "segnet": "models.networks.segnet:build_segnet",
    "segnet_plain": "models.networks.segnet:build_segnet_plain",
    "unet": "models.networks.unet:build",
    "unet_plain": "models.networks.unet:build_without_skips",
}
"""Architecture -> the function that builds it, as `module:function`."""


def build_network(architecture: str, classes: int, width: float = 1.0) -> "keras.Model":
    """Build the named network with fresh weights for any input size that is a multiple of 32.

    The model maps normalised float32 RGB images (N, H, W, 3) to float32 logits (N, h, w, classes).

    Raises ValueError for an unknown architecture, no classes or a width that is not positive.
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
