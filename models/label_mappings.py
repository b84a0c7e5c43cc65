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
from pathlib import Path

import numpy as np
from PIL import Image

from models.classes import IGNORE, ClassTable

VALUE, CLASS, ALSO = "value", "class", "also"
CHANNELS = ("red", "green", "blue")
BETWEEN = "|"
"""Stands between several classes of one cell."""


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

    def decode(self, image: Image.Image) -> np.ndarray:
        """Convert a label to target ids and `IGNORE`, uint8 (H, W).

        Raises:
            ValueError: the label is of another kind, or has a value that the mapping leaves out;
                the message does not name the file.
        """
        if self.is_of_colors:
            if image.mode not in ("RGB", "RGBA", "P"):
                raise ValueError(
                    f"has mode {image.mode}, but {self.source} maps colours; expected RGB. Give a "
                    f"mapping with the column {VALUE}"
                )
            pixels = _packed(np.asarray(image.convert("RGB")))
            values = {_packed(np.array(color)).item(): to for color, to in self.target_of.items()}
        else:
            if image.mode not in ("L", "P"):
                raise ValueError(
                    f"has mode {image.mode}, but {self.source} maps values; expected an 8-bit "
                    f"image. Give a mapping with the columns {', '.join(CHANNELS)}"
                )
            pixels = np.asarray(image)
            values = dict(self.target_of)
        found, positions = np.unique(pixels, return_inverse=True)
        unknown = [value for value in found.tolist() if value not in values]
        if unknown:
            shown = ", ".join(map(self._shown, unknown[:4]))
            more = f" and {len(unknown) - 4} others" if len(unknown) > 4 else ""
            raise ValueError(
                f"holds {shown}{more}, which {self.source} does not map. Add a row for each; an "
                f"empty {CLASS} leaves its pixels out"
            )
        ids = np.array([values[value] for value in found.tolist()], np.uint8)
        return ids[positions].reshape(pixels.shape)

    def _shown(self, value: int) -> str:
        if not self.is_of_colors:
            return f"value {value}"
        return f"colour {value >> 16},{value >> 8 & 255},{value & 255}"

    @classmethod
    def read(cls, path: str | Path, classes: ClassTable) -> LabelMapping:
        """Read a mapping's CSV file.

        Raises:
            ValueError: other columns, an unknown class, a value that is given twice or is none, or
                no row that names a class.
            OSError: the file cannot be read.
        """
        return cls.parse(Path(path).read_text(encoding="utf-8-sig"), str(path), classes)

    @classmethod
    def parse(cls, text: str, source: str, classes: ClassTable) -> LabelMapping:
        """Parse the text of such a file; see `read`."""
        reader = csv.DictReader(io.StringIO(text, newline=""))
        columns = tuple(reader.fieldnames or ())
        kinds = [(*key, CLASS, *rest) for key in ((VALUE,), CHANNELS) for rest in ((), (ALSO,))]
        if columns not in kinds:
            raise ValueError(
                f"{source}: found the columns {', '.join(columns) or 'nothing'}; expected "
                f"{VALUE},{CLASS} or {','.join(CHANNELS)},{CLASS}, and perhaps {ALSO}"
            )
        keys = columns[: columns.index(CLASS)]
        targets: dict[Target, int] = {}
        target_of: dict[int | tuple[int, ...], int] = {}
        for row in reader:
            where = f"{source}, line {reader.line_num}"
            value = _parse_value([row[key] for key in keys], where)
            if value in target_of:
                raise ValueError(f"{where}: maps {value} a second time; keep one row of each")
            target = Target(
                _parse_classes(row[CLASS], where, classes),
                _parse_classes(row.get(ALSO), where, classes),
            )
            target_of[value] = (
                targets.setdefault(target, len(targets)) if target.classes else IGNORE
            )
        if not targets:
            raise ValueError(
                f"{source}: no row maps a label value to a class; expected such as "
                f"0,{classes.names[0]} below {','.join((*keys, CLASS))}"
            )
        return cls(source, tuple(targets), target_of)


def possible_classes(targets: Sequence[Target], classes: int) -> np.ndarray:
    """Which classes each target allows: float32 (targets, classes) of 0 and 1."""
    possible = np.zeros((len(targets), classes), np.float32)
    for row, target in zip(possible, targets, strict=True):
        row[list(target.possible)] = 1
    return possible


def _packed(colors: np.ndarray) -> np.ndarray:
    """RGB `(..., 3)` as whole numbers `(...)`."""
    red, green, blue = np.moveaxis(colors.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def _parse_value(cells: list[str | None], where: str) -> int | tuple[int, ...]:
    try:
        numbers = tuple(int(cell or "") for cell in cells)
    except ValueError:
        numbers = ()
    if not numbers or not all(0 <= number <= 255 for number in numbers):
        raise ValueError(f"{where}: found {cells}, expected whole numbers 0..255")
    return numbers if len(numbers) > 1 else numbers[0]


def _parse_classes(cell: str | None, where: str, classes: ClassTable) -> tuple[int, ...]:
    names = [name.strip() for name in (cell or "").split(BETWEEN) if name.strip()]
    for name in names:
        if name not in classes.names:
            raise ValueError(
                f"{where}: unknown class {name!r}; the model has {', '.join(classes.names)}"
            )
    return tuple(sorted({classes.names.index(name) for name in names}))
