"""Segmentation networks by name, all built by one constructor signature.

Each module of this package holds one architecture and its
`build(classes, input_shape=(None, None, 3), width=1.0) -> keras.Model`. They are imported when a
network is built, so that reading a model's description does not import Keras.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

ARCHITECTURES = {
    "efficientnet_fpn": "models.networks.efficientnet_fpn",
}
"""Architecture -> the module that builds it."""


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
    return import_module(ARCHITECTURES[architecture]).build(classes, width=width)
