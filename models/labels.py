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
        shape: (H, W) of its label, which it must have; checked before pixels are allocated.

    Raises:
        ValueError: no PNG, damaged, of another mode or of another shape; the message does not name
            the file.
    """
    try:
        image = Image.open(BytesIO(data), formats=("PNG",))
    except Exception as error:  # Pillow raises what it likes on damaged headers.
        raise ValueError(
            f"no PNG image, or its header is damaged: {len(data)} bytes that start with "
            f"{data[:8]!r}. Write it anew as PNG"
        ) from error
    with image:
        if image.mode not in ("L", "P"):
            raise ValueError(
                f"has mode {image.mode}; expected an 8-bit image of class ids (mode L or P). "
                "Convert colours to class ids first"
            )
        if shape is not None and (image.height, image.width) != shape:
            raise ValueError(
                f"is {image.width}x{image.height}, but its label is {shape[1]}x{shape[0]}. "
                "Resize the mask with nearest-neighbour sampling"
            )
        try:
            return np.array(image)
        except Exception as error:  # As above: OSError, SyntaxError, struct.error, ...
            raise ValueError(f"damaged image data ({error}). Write it anew") from error
