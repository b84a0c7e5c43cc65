"""Sizes that a graph states: none may ask for more memory than a photo is worth."""

import math
from collections.abc import Sequence
from pathlib import Path

from models.importing.sources import ModelImportError

MAX_ELEMENTS = 1 << 29
"""Most elements of a tensor that a graph makes, as far as it states them."""

Shape = tuple[int | None, ...]
"""Sizes of a tensor, None for open ones."""


def check_elements(name: str, shape: Sequence[int | None], path: Path) -> None:
    """Raise ModelImportError if a tensor of the graph in a file is larger than any photo needs."""
    stated = [size or 0 for size in shape]
    if math.prod(stated) > MAX_ELEMENTS:
        raise ModelImportError(
            f"{path}: the graph makes the tensor {name!r} of the shape {stated}, expected "
            f"{MAX_ELEMENTS} elements at most: export it with a smaller input"
        )
