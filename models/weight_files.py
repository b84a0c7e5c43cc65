"""Weight files: which arrays a Keras `.weights.h5` holds, before memory is taken for them.

A file of a few bytes can state arrays of any size, and can refer to other files. Keras writes
neither: its arrays stand in the file as they are.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import h5py

MAX_BYTES = 4 << 30
"""Largest weight file, in bytes."""

Shape = tuple[int, ...]


def shapes_in(file: Path) -> list[Shape]:
    """The shapes of all arrays of numbers in a weight file, sorted.

    Raises:
        ValueError: the file is no HDF5, an array is not as large as it states, or something in it
            is kept elsewhere; the message says which.
    """
    import h5py  # What only reads descriptions does without.

    try:
        with h5py.File(file) as weights:
            links: list[tuple[str, object]] = []
            weights.visititems_links(lambda name, link: links.append((name, link)))
            for name, link in links:
                if not isinstance(link, h5py.HardLink):
                    raise ValueError(f"{name} is a link to something else")
            arrays = {
                name: item for name, _ in links if isinstance(item := weights[name], h5py.Dataset)
            }
            for name, array in arrays.items():
                _check_array(name, array)
            return sorted(array.shape for array in arrays.values())
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"no HDF5 file, or damaged: {error}") from error


def _check_array(name: str, array: "h5py.Dataset") -> None:
    if array.is_virtual or array.external:
        raise ValueError(f"{name} is kept in another file")
    if array.shape is None or array.dtype.kind not in "fiu":
        raise ValueError(f"{name} is no array of numbers")
    stated, held = math.prod(array.shape) * array.dtype.itemsize, array.id.get_storage_size()
    if stated != held:
        raise ValueError(f"{name} states {stated} bytes and holds {held}")
