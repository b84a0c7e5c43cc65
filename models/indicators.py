"""Indicators: what urban studies derive from class shares, such as the green view index.

An indicator is defined in YAML from groups of classes. The usual ones stand in `indicators.yaml`
with the papers they come from; a file of the same form replaces them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.classes import ClassTable

SHIPPED = Path(__file__).with_name("indicators.yaml")

_Keys = Annotated[list[str], Field(min_length=1)]


class IndicatorError(ValueError):
    """A file of indicators is not what it should be; the message says where and why."""


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
    groups: dict[str, _Keys]
    indicators: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], _Definition], Field(min_length=1)
    ]

    @model_validator(mode="after")
    def _groups_are_known(self) -> "_File":
        for key, definition in self.indicators.items():
            for group in [*definition.of, *definition.over]:
                if group not in self.groups:
                    raise ValueError(
                        f"indicator {key!r} names the group {group!r}; "
                        f"there are {', '.join(self.groups)}"
                    )
        return self


@dataclass(frozen=True)
class Indicator:
    """One indicator, for the classes of one model.

    Attributes:
        key: its column.
        name: as people read it.
        of: positions of the classes that it counts.
        over: positions of the classes that it is the ratio to; None: the whole view.
        description: what it means.
        source: the publication it comes from.
    """

    key: str
    name: str
    of: tuple[int, ...]
    over: tuple[int, ...] | None
    description: str
    source: str

    @property
    def is_share(self) -> bool:
        """Whether it is a share of the view, from 0 to 1, and not a ratio without an upper end."""
        return self.over is None

    def values(self, shares: np.ndarray) -> np.ndarray:
        """Its value in each view.

        Args:
            shares: float64 `(N, C)`, the share of each class in each view.

        Returns:
            float64 `(N,)`; NaN where what it is the ratio to is not in the view.
        """
        part = shares[:, self.of].sum(axis=1)
        if self.over is None:
            return part
        whole = shares[:, self.over].sum(axis=1)
        return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


@dataclass(frozen=True)
class Indicators:
    """The indicators that the classes of a model allow.

    Attributes:
        version: of their definitions; it stands beside their values.
        indicators: those of which the model has a class of every side.
    """

    version: str
    indicators: tuple[Indicator, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of the indicators."""
        return tuple(indicator.key for indicator in self.indicators)

    @classmethod
    def load(cls, classes: ClassTable, path: str | Path | None = None) -> "Indicators":
        """Read definitions for a model's classes; the shipped ones where no file is given.

        Raises:
            IndicatorError: the file cannot be read or is not of the form of `indicators.yaml`.
        """
        path = Path(path or SHIPPED)
        try:
            parsed = _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise IndicatorError(f"{path}: cannot be read: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise IndicatorError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
        except UnicodeDecodeError as error:
            raise IndicatorError(f"{path}: is no UTF-8 text: {error}") from error
        except ValidationError as error:
            raise IndicatorError(f"{path}: {_problems(error)}") from error
        positions = {
            group: tuple(classes.keys.index(key) for key in keys if key in classes.keys)
            for group, keys in parsed.groups.items()
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
