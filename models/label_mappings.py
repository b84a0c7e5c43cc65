"""Label mappings: what the values or colours in the labels of a data set say in a model's classes.

A mapping is a CSV file with a row per label value, so that data sets of other classes can train and
measure a model:

    value,class,also                      red,green,blue,class,also
    0,Road,                               128,0,0,Building,Pole|SignSymbol
    2,Pedestrian|Bicyclist,               0,128,0,Tree,Pole
    255,,                                 0,0,0,,

- `class`: what such a pixel is. Several classes with `|` between them: any one of them.
  Empty: the pixel has no label.
- `also`, an optional column: classes the pixel may show without being labelled so, such as a pole
  before a building. They are not held against a network in training. An evaluation is as strict as
  the labels: there they count as wrong.

A pixel with several possible classes is a partial label (Cour, Sapp and Taskar, "Learning from
Partial Labels", JMLR 2011): its likelihood is the sum of the probabilities of these classes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from models.classes import IGNORE, ClassTable
from models.labels import INDEX_MODES, open_png, pixels

VALUE, CLASS, ALSO = "value", "class", "also"
CHANNELS = ("red", "green", "blue")
COLUMNS = frozenset((*key, CLASS, *rest) for key in ((VALUE,), CHANNELS) for rest in ((), (ALSO,)))
"""The columns that a mapping may have."""

BETWEEN = "|"
"""Stands between several classes of one cell."""

COLOR_MODES = ("RGB", "RGBA", "P")
"""Pillow's modes of labels that hold colours."""


@dataclass(frozen=True)
class Target:
    """What a label says of a pixel, in class ids.

    Attributes:
        classes: the pixel is one of these, in rising order.
        also: classes that it may be without being labelled so.
    """

    classes: tuple[int, ...]
    also: tuple[int, ...] = ()

    @property
    def possible(self) -> tuple[int, ...]:
        """All classes that the pixel may be."""
        return tuple(dict.fromkeys((*self.classes, *self.also)))


@dataclass(frozen=True)
class LabelMapping:
    """What each value or colour of a data set's labels says.

    Attributes:
        source: the file, for errors.
        targets: what labels say, each once; the position is the target's id.
        target_of: target id by label value, an int, or by colour, three of them; `IGNORE` for a
            pixel that has no label.
    """

    source: str
    targets: tuple[Target, ...]
    target_of: Mapping[int | tuple[int, ...], int]

    @property
    def is_of_colors(self) -> bool:
        """Whether labels are RGB images."""
        return not isinstance(next(iter(self.target_of)), int)

    def decode(self, data: bytes) -> np.ndarray:
        """Decode a label, a PNG, to uint8 (H, W) of target ids and `IGNORE`.

        Raises:
            ValueError: no PNG, damaged, values where colours are mapped or the reverse, or a value
                that the mapping leaves out; the message does not name the label.
        """
        with open_png(data) as image:
            if self.is_of_colors:
                if image.mode not in COLOR_MODES:
                    raise ValueError(
                        f"has mode {image.mode}, but {self.source} maps colours; expected RGB. "
                        f"Give a mapping with the column {VALUE}"
                    )
                found = _packed(pixels(image, "RGB"))
            else:
                if image.mode not in INDEX_MODES:
                    raise ValueError(
                        f"has mode {image.mode}, but {self.source} maps values; expected an 8-bit "
                        f"image. Give a mapping with the columns {', '.join(CHANNELS)}"
                    )
                found = pixels(image).astype(np.int32)
        values, ids = self._table
        at = np.minimum(np.searchsorted(values, found), values.size - 1)
        unknown = np.unique(found[values[at] != found]).tolist()
        if unknown:
            shown = ", ".join(map(self._shown, unknown[:4]))
            more = f" and {len(unknown) - 4} others" if len(unknown) > 4 else ""
            raise ValueError(
                f"holds {shown}{more}, which {self.source} does not map. Add a row for each; an "
                f"empty {CLASS} leaves its pixels out"
            )
        return ids[at]

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """The mapped values in rising order, colours packed, int32, and their target ids, uint8."""
        keys = np.array(list(self.target_of), np.int32)
        values = _packed(keys) if self.is_of_colors else keys
        order = np.argsort(values)
        return values[order], np.array(list(self.target_of.values()), np.uint8)[order]

    def _shown(self, value: int) -> str:
        if not self.is_of_colors:
            return f"value {value}"
        return f"colour {value >> 16},{value >> 8 & 255},{value & 255}"

    @classmethod
    def read(cls, path: str | Path, classes: ClassTable) -> LabelMapping:
        """Read a mapping's CSV file.

        Args:
            path: the file, UTF-8.
            classes: the classes that it may name.

        Raises:
            ValueError: other columns, an unknown class, a value that is given twice or is none, or
                no row that names a class.
            OSError: the file cannot be read.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: no UTF-8 text ({error}). Save it as CSV in UTF-8") from error
        return cls.parse(text, str(path), classes)

    @classmethod
    def parse(cls, text: str, source: str, classes: ClassTable) -> LabelMapping:
        """Parse the text of such a file; see `read`."""
        reader = csv.reader(io.StringIO(text, newline=""))
        try:
            rows = [(reader.line_num, tuple(cells)) for cells in reader if cells]
        except csv.Error as error:
            raise ValueError(f"{source}, line {reader.line_num}: {error}") from error
        columns = rows[0][1] if rows else ()
        if columns not in COLUMNS:
            raise ValueError(
                f"{source}: found the columns {','.join(columns) or 'nothing'}; expected "
                f"{VALUE},{CLASS} or {','.join(CHANNELS)},{CLASS}, and perhaps {ALSO}"
            )
        key = columns[: columns.index(CLASS)]
        targets: dict[Target, int] = {}
        target_of: dict[int | tuple[int, ...], int] = {}
        for line, cells in rows[1:]:
            where = f"{source}, line {line}"
            if len(cells) != len(columns):
                raise ValueError(f"{where}: found {','.join(cells)}; expected {','.join(columns)}")
            value = _parse_value(cells[: len(key)], where)
            if value in target_of:
                shown = ",".join(cells[: len(key)])
                raise ValueError(f"{where}: maps {shown} a second time; keep one row of each")
            target = Target(*(_parse_classes(cell, where, classes) for cell in cells[len(key) :]))
            target_of[value] = (
                targets.setdefault(target, len(targets)) if target.classes else IGNORE
            )
        if not targets:
            raise ValueError(
                f"{source}: no row maps a label value to a class; expected such as "
                f"{','.join('0' for _ in key)},{classes.names[0]} below {','.join((*key, CLASS))}"
            )
        if len(targets) > IGNORE:
            raise ValueError(f"{source}: {len(targets)} different targets; at most {IGNORE} fit")
        return cls(source, tuple(targets), target_of)


def possible_classes(targets: Sequence[Target], classes: int) -> np.ndarray:
    """Which classes each target allows: float32 (targets, classes) of 0 and 1."""
    possible = np.zeros((len(targets), classes), np.float32)
    for row, target in zip(possible, targets, strict=True):
        row[list(target.possible)] = 1
    return possible


def single_targets(classes: int) -> tuple[Target, ...]:
    """The targets of labels that are class ids: one for each class."""
    return tuple(Target((class_id,)) for class_id in range(classes))


def joint_targets(sets: Sequence[Sequence[Target]], classes: int) -> tuple[Target, ...]:
    """The targets of several data sets, each once, after those of the single classes."""
    mapped = (target for each in sets for target in each)
    return tuple(dict.fromkeys((*single_targets(classes), *mapped)))


def target_positions(targets: Sequence[Target], among: Sequence[Target]) -> np.ndarray:
    """Position of each target among others, uint8 (256,); `IGNORE` stays what it is."""
    table = np.full(IGNORE + 1, IGNORE, np.uint8)
    table[: len(targets)] = [among.index(target) for target in targets]
    return table


def _packed(colors: np.ndarray) -> np.ndarray:
    """RGB `(..., 3)` as whole numbers `(...)`."""
    red, green, blue = np.moveaxis(colors.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def _parse_value(cells: Sequence[str], where: str) -> int | tuple[int, ...]:
    try:
        numbers = tuple(map(int, cells))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 <= number <= 255 for number in numbers):
        raise ValueError(f"{where}: found {','.join(cells)}; expected whole numbers 0..255")
    return numbers if len(numbers) > 1 else numbers[0]


def _parse_classes(cell: str, where: str, classes: ClassTable) -> tuple[int, ...]:
    names = [name.strip() for name in cell.split(BETWEEN) if name.strip()]
    for name in names:
        if name not in classes.names:
            raise ValueError(
                f"{where}: unknown class {name!r}; the model has {', '.join(classes.names)}"
            )
    return tuple(sorted({classes.names.index(name) for name in names}))
