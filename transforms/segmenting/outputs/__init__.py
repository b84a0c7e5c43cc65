"""Outputs per photo in addition to its mask: one module per output, with the output's name.

Each module has a constant `OUTPUT`. `transforms.output.names.BESIDE` lists the outputs and the
endings of their files; a column group writes an output's value to the row.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from models.segmenter import Segmentation


@dataclass(frozen=True, eq=False)
class SegmentedPhoto:
    """The data that outputs are made from.

    Attributes:
        data: the encoded photo; None unless an output needs it.
        max_pixels: larger photos are refused.
        segmentation: mask, counts and requested extras.
        mask: the mask with the values of its file, uint8 of shape `(height, width)`.
        palette: palette of the mask file, 256 RGB triples.
    """

    data: bytes | None
    max_pixels: int
    segmentation: Segmentation
    mask: np.ndarray
    palette: bytes


@dataclass(frozen=True)
class PhotoOutput:
    """An output per photo.

    Attributes:
        make: returns the bytes of its file, or None if it has none, and a value for the row.
        needs_photo: whether it needs the encoded photo.
        bytes_per_pixel: memory that making it takes, per pixel of the photo.
    """

    make: Callable[[SegmentedPhoto], tuple[bytes | None, Any]]
    needs_photo: bool = False
    bytes_per_pixel: int = 0


def load_outputs(names: Iterable[str]) -> dict[str, PhotoOutput]:
    """The outputs with these names."""
    return {name: import_module(f"{__name__}.{name}").OUTPUT for name in names}
