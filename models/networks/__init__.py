"""Segmentation networks by name, all built by one constructor signature."""

from __future__ import annotations

from collections.abc import Callable

import keras

from models.networks import efficientnet_fpn

ARCHITECTURES: dict[str, Callable[..., keras.Model]] = {
    "efficientnet_fpn": efficientnet_fpn.build,
}
"""Architecture -> `build(classes, input_shape=(None, None, 3), width=1.0) -> keras.Model`."""


def build_network(architecture: str, classes: int, width: float = 1.0) -> keras.Model:
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
    return ARCHITECTURES[architecture](classes, width=width)
