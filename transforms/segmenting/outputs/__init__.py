"""What is made of each photo besides its mask: a module per output, named as the output is.

Each module has a constant `OUTPUT`. Which outputs there are, and the endings of their files, is
said in `transforms.output.names.BESIDE`; a value goes to the row by a column group.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from models.segmenter import Segmentation


@dataclass(frozen=True, eq=False)
class SegmentedPhoto:
    """What outputs are made of.

    Attributes:
        data: the encoded photo; None unless an output needs it.
        max_pixels: larger photos are refused.
        segmentation: mask, counts and what else was asked for.
        mask: the mask in the values of its file, uint8 of shape `(height, width)`.
        palette: of the mask's file, 256 RGB triples.
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
        make: gives the bytes of its file, or None where there is none, and a value for the row.
        needs_photo: whether it needs the encoded photo.
    """

    make: Callable[[SegmentedPhoto], tuple[bytes | None, Any]]
    needs_photo: bool = False


def load_outputs(names: Iterable[str]) -> dict[str, PhotoOutput]:
    """The outputs of these names."""
    return {name: import_module(f"{__name__}.{name}").OUTPUT for name in names}
