"""How many objects of a class are found, such as the lesions in medical images.

An object is a connected area of the class in a label; pixels that share a side or a corner are
connected. IoU and Dice count pixels, so a few large objects outweigh many small ones that are
missed. Here each object counts once, whatever its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from models.classes import IGNORE

FOUND_SHARE = 0.5
"""Least share of an object's pixels that have its class in the mask, for it to be found."""


@dataclass(frozen=True)
class ObjectCounts:
    """Objects of one class in some photos; counts add up.

    Attributes:
        labelled: objects in the labels.
        touched: those of them of which the mask shows a pixel or more.
        found: those of them of which it shows `FOUND_SHARE` or more.
        false: connected areas in the masks that touch no pixel of the class in the label.
    """

    labelled: int = 0
    touched: int = 0
    found: int = 0
    false: int = 0

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        return ObjectCounts(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def recall_touched(self) -> float | None:
        """Share of the labelled objects that are touched; None where there are none."""
        return self.touched / self.labelled if self.labelled else None

    @property
    def recall_found(self) -> float | None:
        """Share of the labelled objects that are found; None where there are none."""
        return self.found / self.labelled if self.labelled else None

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON-ready values; recalls are fractions 0..1."""
        return {
            "labelled": self.labelled,
            "recall_touched": self.recall_touched,
            "recall_found": self.recall_found,
            "false": self.false,
        }


def count_objects(label: np.ndarray, mask: np.ndarray, class_id: int) -> ObjectCounts:
    """Count the objects of a class in one photo.

    Args:
        label: class ids, uint8 (height, width); pixels with `IGNORE` are left out.
        mask: class ids or `IGNORE`, uint8 of the label's shape.
        class_id: the class.
    """
    from models.connected_areas import number_areas

    is_labelled, is_shown = label == class_id, (mask == class_id) & (label != IGNORE)
    objects = number_areas(is_labelled)
    pixels = np.bincount(objects[is_labelled])[1:]
    hits = np.bincount(objects[is_labelled & is_shown], minlength=pixels.size + 1)[1:]
    areas = number_areas(is_shown)
    return ObjectCounts(
        labelled=pixels.size,
        touched=int(np.count_nonzero(hits)),
        found=int(np.count_nonzero(hits >= FOUND_SHARE * pixels)),
        false=int(areas.max(initial=0)) - np.unique(areas[is_labelled & is_shown]).size,
    )


def class_ids(names: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...]:
    """The positions of the `wanted` classes in `names`.

    Raises:
        ValueError: there is no class of such a name.
    """
    for name in wanted:
        if name not in names:
            raise ValueError(
                f"objects of {name}: no such class; expected one of {', '.join(names)}"
            )
    return tuple(map(names.index, wanted))
