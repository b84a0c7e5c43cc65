"""Labelled data sets on the command line: `[NAME=]DIR[:[MAPPING.csv][:WEIGHT]]`."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from models.classes import ClassTable
from models.label_mappings import LabelMapping
from models.labelled_photos import LabelledPhotos, list_split
from pipeline.commands.common import class_table

FORM = re.compile(
    r"(?:(?P<name>[^/=:]+)=)?(?P<folder>.+?)(?::(?P<mapping>[^:]+\.csv))?"
    r"(?:(?(mapping):|::)(?P<weight>[^:]*))?"
)


@dataclass(frozen=True)
class DataSet:
    """A folder of labelled photos in the CamVid layout, as a user states it.

    Attributes:
        name: stands for it in tables and documents; if not stated, the folder's own name.
        folder: path or URI.
        mapping: file of the label mapping; None where labels are class ids.
        weight: how often its photos are taken in a training, relative to other data sets.
    """

    name: str
    folder: str
    mapping: str | None = None
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "DataSet":
        """Parse `[NAME=]DIR[:[MAPPING.csv][:WEIGHT]]`; `=` and `:` may stand in a folder's name.

        Raises:
            ValueError: there is no folder, or the weight is no number above 0.
        """
        if Path(text).is_dir():
            return cls(_own_name(text), text)
        found = FORM.fullmatch(text)
        if not found:
            raise ValueError(f"{text!r} names no folder; expected such as streets=DIR:MAPPING.csv")
        name, folder, mapping, weight = found.groups()
        if name and Path(f"{name}={folder}").is_dir():
            name, folder = None, f"{name}={folder}"
        try:
            share = 1.0 if weight is None else float(weight)
        except ValueError:
            share = 0.0
        if not 0 < share < math.inf:
            raise ValueError(f"{text!r} ends in the weight {weight!r}; expected a number above 0")
        return cls(name or _own_name(folder), folder, mapping, share)

    def check_classes(self, classes: ClassTable) -> None:
        """Check that the labels have these classes, if a class table beside them says theirs.

        Raises:
            ValueError: they have other classes, and no mapping.
            StorageError: the class table cannot be read.
        """
        labels = class_table(self.folder, otherwise=classes)
        if not self.mapping and labels.names != classes.names:
            raise ValueError(
                f"{self.folder}: the labels have the classes {', '.join(labels.names)}, the model "
                f"has {', '.join(classes.names)}; give a mapping, as in DIR:MAPPING.csv"
            )

    def list_split(self, split: str, classes: ClassTable) -> LabelledPhotos:
        """List the photos of a split.

        Args:
            split: its name.
            classes: those of the labels, or those that the mapping names.

        Raises:
            ValueError: there is no photo, one has no label, or the mapping cannot be used.
            OSError: the mapping cannot be read.
        """
        mapping = LabelMapping.read(self.mapping, classes) if self.mapping else None
        return list_split(self.folder, split, len(classes), mapping)


class DataSetType(click.ParamType):
    """A data set; `has_weight` says whether a weight may be stated."""

    name = "data set"

    def __init__(self, has_weight: bool):
        self._has_weight = has_weight

    def convert(self, value: Any, param: Any, ctx: Any) -> DataSet:
        try:
            found = DataSet.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if found.weight != 1 and not self._has_weight:
            self.fail(f"{value!r}: weights are for a training only; leave it out", param, ctx)
        return found


def data_option(
    help: str, has_name: bool = True, has_weight: bool = False
) -> Callable[[Callable], Callable]:
    """Add the option `--data` to a command, as a tuple of at least one `DataSet`.

    Args:
        help: text for users.
        has_name: whether names matter to the command; no two data sets may have the same then.
        has_weight: whether a weight may be stated.
    """
    name = "[NAME=]" if has_name else ""
    mapping = "[MAPPING.csv][:WEIGHT]" if has_weight else "MAPPING.csv"
    return click.option(
        "--data",
        required=True,
        multiple=True,
        type=DataSetType(has_weight),
        callback=_with_names_of_their_own if has_name else None,
        metavar=f"{name}DIR[:{mapping}]",
        help=help,
    )


def _with_names_of_their_own(
    ctx: click.Context, param: click.Parameter, data: tuple[DataSet, ...]
) -> tuple[DataSet, ...]:
    names = [entry.name for entry in data]
    for name in names:
        if names.count(name) > 1:
            raise click.BadParameter(
                f"several data sets are called {name!r}; name each, as in one=DIR", ctx, param
            )
    return data


def _own_name(folder: str) -> str:
    return Path(folder).resolve().name or folder
