"""Index images: 8-bit images whose values are class ids, as labels in a folder and as masks."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from models.classes import IGNORE

LABEL_SUFFIX = ".png"
LABEL_FOLDER_ENDING = "annot"
"""The labels of a split stand in `<data>/<split>annot`, as in CamVid."""

INDEX_MODES = ("L", "P")
"""Pillow's modes of images whose values are ids."""


def read_label(path: str | Path, classes: int) -> np.ndarray:
    """Read a label, see `decode_label`.

    Raises:
        ValueError: no index image, or a value outside the class table; it names the file.
        OSError: the file cannot be read.
    """
    try:
        return decode_label(Path(path).read_bytes(), classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def decode_label(data: bytes, classes: int) -> np.ndarray:
    """Decode a label to uint8 (H, W) of class ids and `IGNORE`.

    The value after the last class id is no class, as CamVid has it, and becomes `IGNORE`.

    Raises:
        ValueError: no index image, or a value outside the class table; it does not name the file.
    """
    label = decode_index_image(data)
    label[label == classes] = IGNORE
    outside = np.unique(label[(label > classes) & (label != IGNORE)])
    if outside.size:
        raise ValueError(
            f"holds {_shortened(outside.tolist())}; expected class ids 0..{classes - 1}, "
            f"or {classes} or {IGNORE} for no class. Fix the label or the class table"
        )
    return label


def _shortened(values: list[int]) -> str:
    return str(values) if len(values) <= 8 else f"{values[:8]} and {len(values) - 8} other values"


def decode_index_image(data: bytes, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Decode a PNG of mode L or P to its values: uint8 (H, W), writable.

    Args:
        data: the encoded image.
        shape: required (H, W), such as that of a mask's label; checked before pixels are allocated.

    Raises:
        ValueError: not a PNG, damaged, of another mode or of another shape; the message does not
            name the file.
    """
    with open_png(data) as image:
        if image.mode not in INDEX_MODES:
            raise ValueError(
                f"has mode {image.mode}; expected an 8-bit image of class ids (mode L or P). "
                "Convert colours to class ids first"
            )
        if shape is not None and (image.height, image.width) != shape:
            raise ValueError(
                f"is {image.width}x{image.height}, but its label is {shape[1]}x{shape[0]}. "
                "Resize the mask with nearest-neighbour sampling"
            )
        return pixels(image)


def open_png(data: bytes) -> Image.Image:
    """Read the header of a PNG.

    Raises:
        ValueError: not a PNG, or its header is damaged; the message does not name the file.
    """
    try:
        return Image.open(BytesIO(data), formats=("PNG",))
    except Exception as error:  # Pillow raises many types of errors for damaged headers.
        raise ValueError(
            f"no PNG image, or its header is damaged: {len(data)} bytes that start with "
            f"{data[:8]!r}. Write it again as PNG"
        ) from error


def pixels(image: Image.Image, mode: str | None = None) -> np.ndarray:
    """The pixels of an opened image, converted to `mode` if that is given: uint8, writable.

    Raises:
        ValueError: the pixels are damaged; the message does not name the file.
    """
    try:
        return np.array(image.convert(mode) if mode else image)
    except Exception as error:  # As above: OSError, SyntaxError, struct.error, ...
        raise ValueError(f"damaged image data ({error}). Write it again") from error
