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
    if math.prod(1 if size is None else size for size in shape) > MAX_ELEMENTS:
        stated = "x".join("?" if size is None else str(size) for size in shape)
        raise ModelImportError(
            f"{path}: the graph makes the tensor {name!r} of the shape {stated}, expected "
            f"{MAX_ELEMENTS} elements at most: export it with a smaller input"
        )
