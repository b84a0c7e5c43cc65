"""Meanings: what classes of different class sets have in common.

Each class of the shipped class sets has one meaning of a small vocabulary, by `meanings.csv`. So
indicators are defined once for all of them, and masks with the classes of one set are compared with
labels of another.

Some sets merge what others keep apart. A meaning may be part of a broader one (`BROADER`), and a
class that merges several has the broader one: CamVid's `Car` is a vehicle, Cityscapes' `car` is a
car, and where the two meet both are vehicles.

What a class covers is taken from

- CamVid: the 11 classes are those of SegNet (Badrinarayanan et al., 2015), which merge 31 of
  Brostow et al. (2009). Building holds bridges, tunnels, archways and walls; Pole also traffic
  cones; Road the lane markings; Pavement also kerbs of parking bays and shoulders; Tree all
  vegetation; SignSymbol traffic lights and other writing; Car all vehicles on four wheels and
  trains; Pedestrian also children, carts and animals; Bicyclist also motorcycles.
- Cityscapes: the class definitions of Cordts et al. (CVPR 2016). Sidewalk holds kerbs, traffic
  islands and pedestrian zones; vegetation is upright, and terrain is grass and soil.
- Mapillary Vistas: the hierarchy in the data set's names, such as `object--support--pole`
  (Neuhold et al., ICCV 2017). Lane markings, manholes and the like are road, kerbs are pavement.
- COCO-Stuff: its hierarchy of things and stuff (Caesar et al., CVPR 2018).
- ADE20K (Zhou et al., CVPR 2017) and Pascal VOC (Everingham et al., IJCV 2010) have flat lists.

In ADE20K, COCO-Stuff and Pascal VOC who rides a bicycle is a person.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from models.classes import IGNORE, ClassTable, SegmentationClass
from models.label_mappings import BETWEEN, Target

TABLE = Path(__file__).with_name("meanings.csv")
"""The meanings of the shipped class sets' classes, a row each."""

SKY = "sky"
OTHER = "other"
"""Meaning of classes that hold what has no class of its own; two of them need not be alike."""

BROADER = {
    "building": "structure",
    "building part": "structure",
    "wall": "structure",
    "bridge": "structure",
    "tunnel": "structure",
    "tree": "vegetation",
    "plant": "vegetation",
    "grass": "vegetation",
    "traffic sign": "signage",
    "traffic light": "signage",
    "billboard": "signage",
    "car": "vehicle",
    "truck": "vehicle",
    "bus": "vehicle",
    "train": "vehicle",
    "other vehicle": "vehicle",
    "rider": "two-wheeler",
    "bicycle": "two-wheeler",
    "motorcycle": "two-wheeler",
}
"""The broader meaning that a meaning is part of."""

NAMED_BY = (
    "cityscapes", "mapillary-vistas", "mapillary-vistas-2", "ade20k", "coco-stuff", "pascal-voc",
    "camvid",
)  # fmt: skip
"""The class sets in which a class of an unknown table is looked up by its key, in this order: the
sets that keep apart most come before the one that merges most."""

ALIKE = 0.75
"""Least share of the keys of either that a table and a class set have in common to be the same: a
background class more, or a few classes less."""


def meanings(classes: ClassTable) -> tuple[str, ...]:
    """The meaning of each class, in the order of the class ids.

    A table of nearly the classes of a shipped set has their meanings. A class that is not of the
    set, or of another table, has the meaning of a class of its key in any set; else its key is its
    meaning.
    """
    sets = _sets()
    keys = set(classes.keys)
    alike = {name: len(keys & of.keys()) / len(keys | of.keys()) for name, of in sets.items()}
    likest = max(alike, key=lambda name: alike[name])
    looked_up = [sets[likest]] if alike[likest] >= ALIKE else []
    looked_up += [sets[name] for name in NAMED_BY]
    return tuple(
        next((found[key] for found in looked_up if key in found), key) for key in classes.keys
    )


@cache
def _sets() -> Mapping[str, Mapping[str, str]]:
    """The meaning of each class key of each class set."""
    sets: dict[str, dict[str, str]] = {}
    with TABLE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = SegmentationClass(row["class"], (0, 0, 0)).key
            sets.setdefault(row["class_set"], {})[key] = row["meaning"]
    return sets


@dataclass(frozen=True, eq=False)
class Common:
    """How masks are compared with labels: by what the classes of both have in common.

    Attributes:
        names: names of what they have in common: classes, meanings, or groups of classes.
        of_labels: for each id that labels hold its position in `names`, or `IGNORE`.
        columns: uint8 (names, classes of the masks): as what a pixel of a name counts whose class
            in the mask is that of the column. A position in `names`, or `IGNORE` for none of them.
        left_out_of_masks: names of the masks' classes that the labels do not have.
        left_out_of_labels: names of the labels' classes that the masks cannot have.
    """

    names: tuple[str, ...]
    of_labels: tuple[int, ...]
    columns: np.ndarray
    left_out_of_masks: tuple[str, ...]
    left_out_of_labels: tuple[str, ...]

    @classmethod
    def of(cls, masks: ClassTable, labels: ClassTable) -> "Common":
        """Find what two tables have in common.

        Where one table has all classes of the other, it is these classes. Else it is the meanings
        that both have, with the meanings that either of them merges put together.

        Raises:
            ValueError: they have nothing in common.
        """
        if set(masks.keys) <= set(labels.keys) or set(labels.keys) <= set(masks.keys):
            of_masks, of_labels = masks.keys, labels.keys
            names = dict(zip(labels.keys, labels.names, strict=True))
        else:
            of_masks, of_labels = _merged(meanings(masks), meanings(labels))
            names = {meaning: meaning for meaning in of_labels if meaning != OTHER}
        shared = [key for key in names if key in of_masks]
        if not shared:
            raise ValueError(
                f"the labels have the classes {_shortened(labels.names)}, the model has "
                f"{_shortened(masks.names)}: nothing in common. Take labels of like classes"
            )

        def places(found: tuple[str, ...]) -> tuple[int, ...]:
            return tuple(shared.index(key) if key in shared else IGNORE for key in found)

        def left_out(table: ClassTable, found: tuple[int, ...]) -> tuple[str, ...]:
            return tuple(name for name, at in zip(table.names, found, strict=True) if at == IGNORE)

        masks_at, labels_at = places(of_masks), places(of_labels)
        return cls(
            tuple(names[key] for key in shared),
            labels_at,
            np.tile(np.array(masks_at, np.uint8), (len(shared), 1)),
            left_out(masks, masks_at),
            left_out(labels, labels_at),
        )

    @classmethod
    def of_targets(cls, masks: ClassTable, targets: Sequence[Target]) -> "Common":
        """Compare masks with labels that hold targets, such as those of a mapping.

        What they have in common is the groups of classes that the targets name. A pixel is right
        if its class in the mask is any one of its group. Else it counts as the smallest group that
        holds this class. Classes that a pixel may also be (`Target.also`) count as wrong.

        Args:
            masks: the classes of the masks, which are those of the targets.
            targets: what labels say, by their ids.
        """
        groups = tuple(dict.fromkeys(target.classes for target in targets))
        nearest = sorted(range(len(groups)), key=lambda group: len(groups[group]))

        def column(group: int, predicted: int) -> int:
            return next((at for at in (group, *nearest) if predicted in groups[at]), IGNORE)

        columns = [[column(group, at) for at in range(len(masks))] for group in range(len(groups))]
        named = {class_id for group in groups for class_id in group}
        return cls(
            tuple(BETWEEN.join(masks.names[class_id] for class_id in group) for group in groups),
            tuple(groups.index(target.classes) for target in targets),
            np.array(columns, np.uint8),
            tuple(name for class_id, name in enumerate(masks.names) if class_id not in named),
            (),
        )

    def to_common(self, label: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A label and its mask as positions in `names`; what is left out is `IGNORE`.

        Args:
            label: ids that labels hold or `IGNORE`, uint8.
            mask: ids of the masks' classes or `IGNORE`, uint8 of the label's shape. Where the label
                is left out, what becomes of it means nothing.
        """
        places = _padded(np.array(self.of_labels, np.uint8))[label]
        rows = np.minimum(places, len(self.names) - 1)
        return places, _padded(self.columns)[rows, mask]


def _merged(*tables: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Meanings of tables, each replaced by the broader one where any table has that."""
    merging = {meaning for table in tables for meaning in table} & set(BROADER.values())

    def merged(meaning: str) -> str:
        broader = BROADER.get(meaning)
        return broader if broader in merging else meaning

    return tuple(tuple(map(merged, table)) for table in tables)


def _shortened(names: tuple[str, ...]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _padded(ids: np.ndarray) -> np.ndarray:
    """Ids by uint8 values `(..., values)`, with `IGNORE` for all further values."""
    missing = [(0, 0)] * (ids.ndim - 1) + [(0, IGNORE + 1 - ids.shape[-1])]
    return np.pad(ids, missing, constant_values=IGNORE)
