"""What a run chooses about the masks of a model, and the id that its rows carry for it."""

from dataclasses import dataclass

from models.classes import ClassTable
from models.packages import ModelPackage


@dataclass(frozen=True)
class MaskOptions:
    """What kind of masks a model makes.

    Attributes:
        windows: photos are segmented in overlapping windows at this scale of their own resolution,
            above 0 and up to 1; None: each is stretched to the network's input.
        label_ids: masks hold the label ids of the classes' data set instead of class ids.
    """

    windows: float | None = None
    label_ids: bool = False

    def model_id(self, package: ModelPackage) -> str:
        """The id of such masks in rows: the package's own, and what changes its masks."""
        windows = "" if self.windows is None else f"+windows{self.windows:g}"
        label_ids = "+label_ids" if self.label_ids else ""
        return f"{package.model_id}{windows}{label_ids}"

    def values(self, classes: ClassTable) -> tuple[int, ...]:
        """The value of each class in masks, in the order of the class ids."""
        return classes.label_ids if self.label_ids else tuple(range(len(classes)))


CLASS_IDS = MaskOptions()
"""Masks of class ids, photos stretched to the network's input."""
