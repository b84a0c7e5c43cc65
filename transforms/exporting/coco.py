"""COCO: panoptic and RLE annotations, for tools that read COCO.

See https://cocodataset.org/#format-data. All classes are stuff: a photo has one segment of each
class that it shows. Category ids are class ids and one.
"""

from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

from models.classes import IGNORE
from transforms.exporting.json_lists import to_json, write_object
from transforms.exporting.masked import MaskedPhoto, MaskFormat, class_colors, color_table
from transforms.output.archives import Archive
from transforms.photos import mask_files

IMAGES, ANNOTATIONS = "images", "annotations"
MAX_CLASSES = 256
"""Annotation ids reserved for each photo, one per class."""


class CocoFormat(MaskFormat):
    """A COCO file with one kind of annotations."""

    lists = (IMAGES, ANNOTATIONS)
    file: str

    def finish(self, parts: int) -> None:
        """See `Format.finish`."""
        document = {
            "info": {"description": f"Class masks of {self.archive.model}"},
            "licenses": [],
            "categories": categories(self.archive),
        }
        lists: dict[str, Iterable[BinaryIO]] = {
            name: self.fragments(name, parts) for name in self.lists
        }
        with self.open(self.file) as file:
            write_object(file, document, lists)
        self.remove_fragments()


class CocoPanoptic(CocoFormat):
    """`panoptic.json` and `panoptic/IMAGE.png`, whose colours are segment ids: R + 256 G + 65536 B.

    The colours are those of the classes.
    """

    file = "panoptic.json"

    def write_mask(self, photo: MaskedPhoto, mask: np.ndarray) -> dict[str, list[str]]:
        """See `MaskFormat.write_mask`."""
        colors = class_colors(self.archive)
        self.put(f"panoptic/{photo.path}", mask_files.encode_rgb(color_table(colors)[mask]))
        segments = [
            {
                "id": segment_id(colors[class_id]),
                "category_id": class_id + 1,
                "area": area,
                "bbox": bounding_box(mask == class_id),
                "iscrowd": 0,
            }
            for class_id, area in areas(mask)
        ]
        annotation = {"image_id": photo.number, "file_name": photo.path, "segments_info": segments}
        return {IMAGES: [to_json(image_entry(photo))], ANNOTATIONS: [to_json(annotation)]}


class CocoRle(CocoFormat):
    """`annotations.json`, with a run-length encoded mask per class and photo."""

    file = "annotations.json"

    def write_mask(self, photo: MaskedPhoto, mask: np.ndarray) -> dict[str, list[str]]:
        """See `MaskFormat.write_mask`."""
        from pycocotools import mask as coco_mask

        annotations = []
        for class_id, area in areas(mask):
            of_class = np.asfortranarray(mask == class_id, np.uint8)
            encoded = coco_mask.encode(of_class)
            annotation = {
                "id": photo.number * MAX_CLASSES + class_id + 1,
                "image_id": photo.number,
                "category_id": class_id + 1,
                "segmentation": {
                    "size": [photo.height, photo.width], "counts": encoded["counts"].decode()
                },
                "area": area,
                "bbox": bounding_box(of_class),
                "iscrowd": 0,
            }  # fmt: skip
            annotations.append(to_json(annotation))
        return {IMAGES: [to_json(image_entry(photo))], ANNOTATIONS: annotations}


def categories(archive: Archive) -> list[dict[str, Any]]:
    """The model's classes as COCO categories."""
    entries = zip(archive.classes.names, class_colors(archive), strict=True)
    return [
        {"id": position, "name": name, "supercategory": name, "isthing": 0, "color": list(color)}
        for position, (name, color) in enumerate(entries, 1)
    ]


def image_entry(photo: MaskedPhoto) -> dict[str, Any]:
    """A photo as a COCO image; its file name is its path below the INPUT, as in statistics."""
    return {
        "id": photo.number,
        "file_name": photo.image,
        "width": photo.width,
        "height": photo.height,
    }


def areas(mask: np.ndarray) -> list[tuple[int, int]]:
    """The class ids in a mask and their pixel counts; 255 is no class."""
    counts = np.bincount(mask.ravel(), minlength=256)
    return [
        (class_id, int(counts[class_id])) for class_id in np.flatnonzero(counts[:IGNORE]).tolist()
    ]


def bounding_box(shown: np.ndarray) -> list[int]:
    """Bounding box of the nonzero pixels of `(height, width)`: x, y, width, height; not of none."""
    columns, rows = np.flatnonzero(shown.any(axis=0)), np.flatnonzero(shown.any(axis=1))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]


def segment_id(color: tuple[int, int, int]) -> int:
    """The segment id of a colour in panoptic images."""
    red, green, blue = color
    return red + 256 * green + 65536 * blue
