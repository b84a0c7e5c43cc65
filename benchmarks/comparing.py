"""Compare two folders of masks by names, bytes and pixels."""

from pathlib import Path

import numpy as np
from PIL import Image


def differing(first: Path, second: Path) -> list[str]:
    """List files that only one of two folders has or whose bytes differ."""
    names = {path.name for folder in (first, second) for path in folder.iterdir()}
    return sorted(name for name in names if not _same_bytes(first / name, second / name))


def agreement(first: Path, second: Path) -> float:
    """Return the share of equal pixels in the masks that both folders have.

    Raises:
        ValueError: the folders have no mask in common, or masks of the same name differ in size.
    """
    names = {path.name for path in first.iterdir()} & {path.name for path in second.iterdir()}
    if not names:
        raise ValueError(f"{first} and {second} have no mask in common")
    return float(np.mean([_equal_pixels(first / name, second / name) for name in sorted(names)]))


def _same_bytes(first: Path, second: Path) -> bool:
    return first.exists() and second.exists() and first.read_bytes() == second.read_bytes()


def _equal_pixels(first: Path, second: Path) -> float:
    with Image.open(first) as one, Image.open(second) as other:
        if one.size != other.size:
            raise ValueError(f"{first} has {one.size} pixels, {second} has {other.size}")
        return float(np.mean(np.asarray(one) == np.asarray(other)))
