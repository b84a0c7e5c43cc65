"""CVAT: its format "Segmentation mask 1.1", the layout of Pascal VOC.

See https://docs.cvat.ai/docs/dataset_management/formats/format-smask. CVAT knows the photos of a
task by their paths without the ending. The folder is imported as a zip archive. Instances are the
classes themselves: with them, CVAT leaves out what is no class.
"""

import posixpath
import re

import numpy as np

from transforms.exporting.masked import NO_COLOR, MaskedPhoto, class_colors, color_table
from transforms.exporting.naming import NamedMasks
from transforms.photos import mask_files

BACKGROUND = "background"
"""CVAT's name for pixels without a class."""


class Cvat(NamedMasks):
    """`labelmap.txt`, `SegmentationClass/`, `SegmentationObject/` and the list of photos."""

    def write_mask(self, photo: MaskedPhoto, mask: np.ndarray) -> dict[str, list[str]]:
        """See `MaskFormat.write_mask`."""
        name = posixpath.splitext(photo.path.removesuffix(".png"))[0]
        for folder, colors in (
            ("SegmentationClass", class_colors(self.archive)),
            ("SegmentationObject", voc_colors(len(self.archive.classes))),
        ):
            self.put(f"{folder}/{name}.png", mask_files.encode_rgb(color_table(colors)[mask]))
        return self.name_entry(name, photo)

    def finish(self, parts: int) -> None:
        """See `Format.finish`."""
        self.check_names(
            parts, "CVAT does not look at the endings of file names; rename one and run again"
        )
        names = self.archive.classes.names
        no_class = BACKGROUND if BACKGROUND not in names else f"no {BACKGROUND}"
        labels = zip(names, class_colors(self.archive), strict=True)
        self.put("labelmap.txt", label_map([(no_class, NO_COLOR), *labels]).encode())
        with self.open("ImageSets/Segmentation/default.txt") as file:
            for name, _ in self.names(parts):
                file.write(f"{name}\n".encode())
        self.remove_fragments()


def label_map(labels: list[tuple[str, tuple[int, int, int]]]) -> str:
    """The text of `labelmap.txt`: a line `name:r,g,b:parts:actions` for each label.

    A name cannot hold `:`, nor begin with `#`; `_` stands in their place.
    """
    lines = ["# label:color_rgb:parts:actions"]
    for name, (red, green, blue) in labels:
        name = re.sub(r"[:\x00-\x1f]|^#", "_", name.strip())
        lines.append(f"{name}:{red},{green},{blue}::")
    return "\n".join(lines) + "\n"


def voc_colors(count: int) -> list[tuple[int, int, int]]:
    """The colours of instances 1 to `count` in Pascal VOC: bit by bit, the colours share a number.

    See the development kit of the VOC challenge 2012, section 4.4.
    """
    colors = []
    for number in range(1, count + 1):
        channels = [0, 0, 0]
        for level in range(8):
            for channel in range(3):
                channels[channel] |= (number >> (3 * level + channel) & 1) << (7 - level)
        colors.append((channels[0], channels[1], channels[2]))
    return colors
