"""Cityscapes: masks of label ids, in names that cityscapesScripts evaluates.

See https://github.com/mcordts/cityscapesScripts: a prediction belongs to the ground truth whose
name begins with the same CITY_SEQUENCE_FRAME. `CITY_SEQUENCE_FRAME_leftImg8bit.png` keeps its own;
other photos get their group, with `-` for what is no letter or digit, and a number. `names.csv`
says which is which.

Classes are those of Cityscapes by their names. What Cityscapes has no class for is label 0.
"""

import posixpath
import re

import numpy as np

from models.classes import ClassTable
from models.csv_cells import as_text, lines
from transforms.exporting.format import ExportError
from transforms.exporting.masked import MaskedPhoto
from transforms.exporting.naming import NamedMasks
from transforms.output import columns
from transforms.photos import mask_files

ENDING = "_labelIds.png"
UNLABELED = 0
"""The label id of pixels without a class."""

FRAMES = 10**6
"""Frames in a sequence; frame numbers have six digits."""

_CORE = re.compile(r"[A-Za-z0-9-]+_\d{6}_\d{6}(?=_leftImg8bit\.)")


class Cityscapes(NamedMasks):
    """`CITY/CITY_SEQUENCE_FRAME_labelIds.png` and `names.csv`."""

    def note(self) -> str:
        """See `Format.note`."""
        table = self.archive.classes
        known = label_ids(table)
        if not any(known):
            raise ExportError(
                f"cityscapes: Cityscapes has none of the classes of {self.archive.model} "
                f"({', '.join(table.names)}); export another model, or another format"
            )
        missing = [n for n, label in zip(table.names, known, strict=True) if label == UNLABELED]
        if missing:
            return f"Cityscapes has no class {', '.join(missing)}: their pixels are label 0"
        return ""

    def write_mask(self, photo: MaskedPhoto, mask: np.ndarray) -> dict[str, list[str]]:
        """See `MaskFormat.write_mask`."""
        values = np.full(256, UNLABELED, np.uint8)
        values[: len(self.archive.classes)] = label_ids(self.archive.classes)
        name = file_name(photo)
        self.put(name, mask_files.encode_grey(values[mask]))
        return self.name_entry(name, photo)

    def finish(self, parts: int) -> None:
        """See `Format.finish`."""
        self.check_names(parts, "Cityscapes names a photo once; rename one and run again")
        with self.open("names.csv") as file:
            file.write(lines([("file", columns.IMAGE)]))
            for name, image in self.names(parts):
                file.write(lines([(name, as_text(image))]))
        self.remove_fragments()


def label_ids(classes: ClassTable) -> list[int]:
    """The Cityscapes label id of each class; `UNLABELED` if Cityscapes has none of that name."""
    theirs = ClassTable.load("cityscapes")
    known = dict(zip(theirs.keys, theirs.label_ids, strict=True))
    return [known.get(key, UNLABELED) for key in classes.keys]


def file_name(photo: MaskedPhoto) -> str:
    """The path of the mask of a photo.

    >>> photo = MaskedPhoto(7, "a/ulm_000000_000019_leftImg8bit.png", "", "a", 1, 1, "")
    >>> file_name(photo)
    'ulm/ulm_000000_000019_labelIds.png'
    """
    core = _CORE.match(posixpath.basename(photo.image))
    if core:
        return f"{core[0].partition('_')[0]}/{core[0]}{ENDING}"
    city = re.sub(r"[^A-Za-z0-9]", "-", photo.group).strip("-") or "photos"
    sequence, frame = divmod(photo.number, FRAMES)
    return f"{city}/{city}_{sequence:06}_{frame:06}{ENDING}"
