"""Merged classes: a mapping from a model's classes to fewer ones, for additional statistics."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

from models.classes import ClassTable, SegmentationClass

COLUMNS = ("class", "merged")
"""Columns of a mapping's CSV file."""


@dataclass(frozen=True)
class MergedClasses:
    """A mapping of each class to a merged class.

    Attributes:
        names: names of the merged classes, in the order of their first member.
        members: position of the merged class of each class id.
    """

    names: tuple[str, ...]
    members: tuple[int, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Names for column names."""
        return tuple(SegmentationClass(name, (0, 0, 0)).key for name in self.names)

    def merge(self, pixels: Sequence[int]) -> tuple[int, ...]:
        """Sum the pixels of the classes by merged class."""
        sums = [0] * len(self.names)
        for member, count in zip(self.members, pixels, strict=True):
            sums[member] += count
        return tuple(sums)

    @classmethod
    def parse(cls, text: str, source: str, classes: ClassTable) -> "MergedClasses":
        """Parse CSV text with the columns `class,merged`; a class without a row is not merged.

        Args:
            text: the content of a file.
            source: its name, for errors.
            classes: the model's classes.

        Raises:
            ValueError: other columns, an unknown class, a class given twice, or an empty or
                ambiguous name.
        """
        merged: dict[str, str] = {}
        reader = csv.DictReader(StringIO(text, newline=""))
        if reader.fieldnames != [*COLUMNS]:
            raise ValueError(
                f"{source}: found the columns {reader.fieldnames}, expected {[*COLUMNS]}"
            )
        for row in reader:
            name, target = row["class"], (row["merged"] or "").strip()
            problem = (
                f"unknown class {name!r}; the model has {', '.join(classes.names)}"
                if name not in classes.names
                else f"class {name!r} is given twice; name each class once"
                if name in merged
                else f"class {name!r} has no merged class; give its name"
                if not target
                else None
            )
            if problem:
                raise ValueError(f"{source}, line {reader.line_num}: {problem}")
            merged[name] = target
        targets = [merged.get(name, name) for name in classes.names]
        table = cls(tuple(dict.fromkeys(targets)), ())
        if len(set(table.keys)) < len(table.keys):
            raise ValueError(
                f"{source}: merged classes {', '.join(table.names)} have equal column names "
                f"({', '.join(table.keys)}); choose names that differ in letters or digits"
            )
        return cls(table.names, tuple(map(table.names.index, targets)))
