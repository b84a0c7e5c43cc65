"""Class tables: the names, colours and ids of the classes of a network.

A class is defined once, by a row of a class table. Seven tables are shipped:

- `camvid`: the 11 classes of CamVid as grouped by SegNet (Badrinarayanan et al. 2015).
- `cityscapes`: the 19 evaluated classes of Cityscapes (Cordts et al., CVPR 2016). Their class ids
  are its train ids.
- `ade20k`: the 150 classes of the scene parsing benchmark of ADE20K (Zhou et al., CVPR 2017), whose
  label images count them from 1. Its usual colours give road and skyscraper the same grey;
  skyscraper is one step lighter here.
- `mapillary-vistas`: the 66 classes of Mapillary Vistas 1.2 (Neuhold et al., ICCV 2017) under their
  readable names. The last, `Unlabeled`, is not evaluated: networks often have the first 65 only.
- `mapillary-vistas-2`: the 124 classes of Mapillary Vistas 2.0. It gives several classes one
  colour, such as white to eight kinds of lane markings; all but the first of them differ here by
  the least step in blue that leaves each colour to one class.
- `coco-stuff`: the 171 evaluated classes of COCO-Stuff (Caesar et al., CVPR 2018), 80 things and 91
  stuffs. Their label ids are the values of its label images, one less than the ids of its list. It
  has no colours of its own; here a class has that of its id in the colour map of Pascal VOC.
- `pascal-voc`: the 20 classes of Pascal VOC (Everingham et al., IJCV 2010) behind the background.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

IGNORE = 255
"""Ignore value: a mask or label pixel that belongs to no class."""

MAX_CLASSES = 255
"""Most classes of a table: an 8-bit mask holds the class ids 0..254 and `IGNORE`."""

COLUMNS = ("name", "red", "green", "blue")
"""Required columns of a class table's CSV file."""

LABEL_ID = "label_id"
"""Optional last column of a class table's CSV file."""

CLASS_SETS = Path(__file__).parent / "class_sets"
"""Folder of the shipped class tables, `<name>.csv`."""


@dataclass(frozen=True)
class SegmentationClass:
    """One class.

    Attributes:
        name: display name.
        color: RGB, each channel 0..255.
        label_id: value in the label images of the data set, 0..254; None if it is the class id.
    """

    name: str
    color: tuple[int, int, int]
    label_id: int | None = None

    @property
    def key(self) -> str:
        """The name for column names: lower case, `_` for all but letters and digits."""
        return re.sub(r"[^a-z0-9]", "_", self.name.lower())


@dataclass(frozen=True)
class ClassTable:
    """The classes of a network; a class's position is its id in masks and logits.

    Raises:
        ValueError: there are no classes or more than 255; a name, colour or label id is given
            twice; a channel is outside 0..255 or a label id outside 0..254.
    """

    classes: tuple[SegmentationClass, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= MAX_CLASSES:
            raise ValueError(f"a class table holds 1 to {MAX_CLASSES} classes, not {len(self)}")
        for what, values in (
            ("name", [c.key for c in self.classes]),
            ("colour", [str(c.color) for c in self.classes]),
            ("label id", [str(value) for value in self.label_ids]),
        ):
            repeated = sorted({value for value in values if values.count(value) > 1})
            if repeated:
                raise ValueError(
                    f"class {what} given twice: {', '.join(repeated)}; "
                    f"give each class a {what} of its own"
                )
        for entry, label_id in zip(self.classes, self.label_ids, strict=True):
            if len(entry.color) != 3 or not all(0 <= channel <= 255 for channel in entry.color):
                raise ValueError(
                    f"class {entry.name!r}: colour {entry.color} is not three values 0..255"
                )
            if not 0 <= label_id < IGNORE:
                raise ValueError(f"class {entry.name!r}: label id {label_id} is not 0..254")

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of the class ids."""
        return tuple(entry.name for entry in self.classes)

    @property
    def keys(self) -> tuple[str, ...]:
        """Names for column names, in the order of the class ids."""
        return tuple(entry.key for entry in self.classes)

    @property
    def label_ids(self) -> tuple[int, ...]:
        """Values in the label images of the data set, in the order of the class ids."""
        return tuple(
            position if entry.label_id is None else entry.label_id
            for position, entry in enumerate(self.classes)
        )

    def palette(self, values: Sequence[int] | None = None) -> bytes:
        """Return 256 RGB triples for a PNG of mode `P`; values without a class are black.

        Args:
            values: the mask value of each class; the class ids by default.
        """
        colors = [bytes(3)] * 256
        for value, entry in zip(values or range(len(self)), self.classes, strict=True):
            colors[value] = bytes(entry.color)
        return b"".join(colors)

    @classmethod
    def of(cls, rows: Iterable[tuple[str, Sequence[int]]]) -> "ClassTable":
        """Build a table from `(name, (red, green, blue))` pairs in the order of the class ids."""
        return cls(tuple(SegmentationClass(name, (c[0], c[1], c[2])) for name, c in rows))

    @classmethod
    def load(cls, name_or_path: str | Path) -> "ClassTable":
        """Load a shipped class set by name, such as `cityscapes`, or read a CSV file.

        Raises:
            ValueError: there is neither, or the file is not a class table.
            OSError: the file cannot be read.
        """
        shipped = {file.stem: file for file in CLASS_SETS.glob("*.csv")}
        path = shipped.get(str(name_or_path), Path(name_or_path))
        if not path.is_file():
            raise ValueError(
                f"{name_or_path}: neither a class set ({', '.join(sorted(shipped))}) nor a CSV "
                f"file with the columns {', '.join(COLUMNS)}"
            )
        return cls.read(path)

    @classmethod
    def read(cls, path: str | Path) -> "ClassTable":
        """Read a CSV file with `COLUMNS` and perhaps `label_id`, a row per class in id order.

        Raises:
            ValueError: the file has other columns or a value is not a whole number.
            OSError: the file cannot be read.
        """
        with open(path, newline="", encoding="utf-8") as file:
            return cls.parse(file.read(), path)

    @classmethod
    def parse(cls, text: str, path: str | Path) -> "ClassTable":
        """Read the text of such a file; `path` names it in errors.

        Raises:
            ValueError: the text has other columns or a value is not a whole number.
        """
        reader = csv.DictReader(io.StringIO(text))
        if reader.fieldnames not in ([*COLUMNS], [*COLUMNS, LABEL_ID]):
            raise ValueError(
                f"{path}: found the columns {reader.fieldnames}, expected {[*COLUMNS]}, "
                f"and perhaps {LABEL_ID}"
            )
        entries = []
        for row in reader:
            try:
                red, green, blue = (int(row[column]) for column in COLUMNS[1:])
                label_id = int(row[LABEL_ID]) if LABEL_ID in row else None
            except (TypeError, ValueError):
                raise ValueError(
                    f"{path}, line {reader.line_num}: found {row}, "
                    "expected a name and whole numbers"
                ) from None
            entries.append(SegmentationClass(row["name"], (red, green, blue), label_id))
        try:
            return cls(tuple(entries))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


CAMVID = ClassTable.load("camvid")
"""The shipped class table `camvid`."""
