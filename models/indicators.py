"""Indicators that urban studies derive from class shares, such as the green view index.

Indicators are defined in YAML in terms of groups of classes, by what classes mean or by their keys.
`indicators.yaml` defines common ones and cites their papers; a user's file of the same format
replaces it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.classes import ClassTable
from models.meanings import meanings
from models.texts import one_line

SHIPPED = Path(__file__).with_name("indicators.yaml")
"""The shipped definitions."""

_Keys = Annotated[list[str], Field(min_length=1)]


class IndicatorError(ValueError):
    """A file of indicators cannot be read or is invalid; the message says where and why."""


class _Definition(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    of: _Keys
    over: list[str] = []
    description: str = ""
    source: str = ""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: str
    groups: dict[str, _Keys] = {}
    meanings: dict[str, _Keys] = {}
    indicators: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], _Definition], Field(min_length=1)
    ]

    @model_validator(mode="after")
    def _groups_are_known(self) -> "_File":
        twice = [group for group in self.groups if group in self.meanings]
        if twice:
            raise ValueError(
                f"group {twice[0]!r} is among groups and among meanings; rename one of them"
            )
        known = [*self.groups, *self.meanings]
        for key, definition in self.indicators.items():
            for group in [*definition.of, *definition.over]:
                if group not in known:
                    raise ValueError(
                        f"indicator {key!r} names the unknown group {group!r}; "
                        f"the groups are {', '.join(known)}"
                    )
        return self


@dataclass(frozen=True)
class Indicator:
    """One indicator, for the classes of one model.

    Attributes:
        key: column name.
        name: display name.
        of: positions of the classes in the numerator.
        over: positions of the classes in the denominator; None: the whole view.
        description: meaning.
        source: publication that it is taken from.
    """

    key: str
    name: str
    of: tuple[int, ...]
    over: tuple[int, ...] | None
    description: str
    source: str

    @property
    def is_share(self) -> bool:
        """Whether the values are shares of the view, 0 to 1, and not unbounded ratios."""
        return self.over is None

    def values(self, shares: np.ndarray) -> np.ndarray:
        """Compute the value of each view.

        Args:
            shares: float64 `(N, C)`, the share of each class in each view.

        Returns:
            float64 `(N,)`; NaN where the denominator is 0.
        """
        part = shares[:, self.of].sum(axis=1)
        if self.over is None:
            return part
        whole = shares[:, self.over].sum(axis=1)
        return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


@dataclass(frozen=True)
class Indicators:
    """The indicators that can be computed from the classes of a model.

    Attributes:
        version: of the definitions; it is written beside the values.
        indicators: those for which the model has a class in the numerator and the denominator.
    """

    version: str
    indicators: tuple[Indicator, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of the indicators."""
        return tuple(indicator.key for indicator in self.indicators)

    @classmethod
    def load(cls, classes: ClassTable, path: str | Path | None = None) -> "Indicators":
        """Read definitions from a file, by default the shipped ones, for a model's classes.

        Raises:
            IndicatorError: the file cannot be read or does not have the format of
                `indicators.yaml`.
        """
        path = Path(path or SHIPPED)
        try:
            parsed = _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise IndicatorError(f"{path}: cannot be read: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise IndicatorError(f"{path}: not valid YAML: {one_line(error)}") from error
        except UnicodeDecodeError as error:
            raise IndicatorError(f"{path}: not UTF-8 text: {error}") from error
        except ValidationError as error:
            raise IndicatorError(f"{path}: {_problems(error)}") from error
        positions = {
            group: tuple(at for at, one in enumerate(of_classes) if one in members)
            for groups, of_classes in (
                (parsed.groups, classes.keys),
                (parsed.meanings, meanings(classes)),
            )
            for group, members in groups.items()
        }
        found = (_of(key, each, positions) for key, each in parsed.indicators.items())
        return cls(
            parsed.version,
            tuple(each for each in found if each.of and each.over != ()),
        )


def _of(key: str, definition: _Definition, groups: Mapping[str, tuple[int, ...]]) -> Indicator:
    def members(names: list[str]) -> tuple[int, ...]:
        return tuple(sorted({position for name in names for position in groups[name]}))

    return Indicator(
        key,
        definition.name,
        members(definition.of),
        members(definition.over) if definition.over else None,
        definition.description,
        definition.source,
    )


def _problems(error: ValidationError) -> str:
    def line(problem: Any) -> str:
        where = ".".join(map(str, problem["loc"]))
        return f"{where}: {problem['msg']}" if where else problem["msg"]

    return "; ".join(line(problem) for problem in error.errors())
