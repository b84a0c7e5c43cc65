"""Class tables: the names and colours of what a network tells apart."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

IGNORE = 255
"""Value of a mask or label pixel that belongs to no class."""

MAX_CLASSES = 255
"""An 8-bit mask holds the class ids 0..254; 255 is `IGNORE`."""


@dataclass(frozen=True)
class SegmentationClass:
    """One class: its name as people read it and its RGB colour, each channel 0..255."""

    name: str
    color: tuple[int, int, int]

    @property
    def key(self) -> str:
        """The name in column names: lower case, `_` for what is not a letter or digit."""
        return re.sub(r"[^a-z0-9]", "_", self.name.lower())


@dataclass(frozen=True)
class ClassTable:
    """The classes of a network; a class's position is its id in masks and logits.

    Raises:
        ValueError: no class, more than 254, a name or colour given twice, a channel outside 0..255.
    """

    classes: tuple[SegmentationClass, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= MAX_CLASSES:
            raise ValueError(f"a class table holds 1 to {MAX_CLASSES} classes, not {len(self)}")
        for what, values in (
            ("name", [c.key for c in self.classes]),
            ("colour", [str(c.color) for c in self.classes]),
        ):
            repeated = sorted({value for value in values if values.count(value) > 1})
            if repeated:
                raise ValueError(
                    f"class {what} given twice: {', '.join(repeated)}; "
                    f"give each class a {what} of its own"
                )
        for entry in self.classes:
            if len(entry.color) != 3 or not all(0 <= channel <= 255 for channel in entry.color):
                raise ValueError(
                    f"class {entry.name!r}: colour {entry.color} is not three values 0..255"
                )

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of the class ids."""
        return tuple(entry.name for entry in self.classes)

    @property
    def keys(self) -> tuple[str, ...]:
        """Names as they stand in column names, in the order of the class ids."""
        return tuple(entry.key for entry in self.classes)

    @property
    def palette(self) -> bytes:
        """256 RGB triples for a PNG of mode `P`; ids without a class are black."""
        colors = b"".join(bytes(entry.color) for entry in self.classes)
        return colors.ljust(256 * 3, b"\0")

    @classmethod
    def of(cls, rows: Iterable[tuple[str, Sequence[int]]]) -> "ClassTable":
        """Build a table from `(name, (red, green, blue))` pairs in the order of the ids."""
        return cls(tuple(SegmentationClass(name, (c[0], c[1], c[2])) for name, c in rows))

    @classmethod
    def read(cls, path: str | Path) -> "ClassTable":
        """Read a CSV file with the columns `name,red,green,blue`, a row per class in id order.

        Raises:
            ValueError: the file has other columns or a value is not a whole number.
            OSError: the file cannot be read.
        """
        columns = ["name", "red", "green", "blue"]
        with open(path, newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            if reader.fieldnames != columns:
                raise ValueError(
                    f"{path}: found the columns {reader.fieldnames}, expected {columns}"
                )
            rows = []
            for row in reader:
                try:
                    rows.append((row["name"], [int(row[c]) for c in columns[1:]]))
                except (TypeError, ValueError):
                    raise ValueError(
                        f"{path}, line {reader.line_num}: found {row}, "
                        "expected a name and three whole numbers 0..255"
                    ) from None
        try:
            return cls.of(rows)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


CAMVID = ClassTable.of(
    [
        ("Sky", (128, 128, 128)),
        ("Building", (128, 0, 0)),
        ("Pole", (192, 192, 128)),
        ("Road", (128, 64, 128)),
        ("Pavement", (60, 40, 222)),
        ("Tree", (128, 128, 0)),
        ("SignSymbol", (192, 128, 128)),
        ("Fence", (64, 64, 128)),
        ("Car", (64, 0, 128)),
        ("Pedestrian", (64, 64, 0)),
        ("Bicyclist", (0, 128, 192)),
    ]
)
"""The 11 classes of CamVid as SegNet groups them (Badrinarayanan et al. 2015)."""
