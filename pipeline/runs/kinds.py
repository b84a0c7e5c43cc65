"""Kinds of settings: what a type means on the command line, in words, and in the Flex Template."""

import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import click
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from pipeline.runs.settings import Option, as_share


class ShareType(click.ParamType):
    """A share from 0 to 1, also written as a percentage."""

    name = "share"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            return as_share(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True)
class Kind:
    """What the type of a setting means outside Python.

    Attributes:
        click_type: takes it on the command line; None for a flag.
        expected: what a value must be, in words.
        template_type: `paramType` of the Flex Template.
        regex: what a value must match there; empty: anything.
        choices: its values, where it has but a few.
        enum: the class of these values, if they are members of one.
    """

    click_type: click.ParamType | None
    expected: str
    template_type: str = "TEXT"
    regex: str = ""
    choices: tuple[str, ...] = ()
    enum: type[Enum] | None = None


def kinds_of(settings: type[BaseModel]) -> Iterator[tuple[str, FieldInfo, Option, Kind]]:
    """Name, declaration, option and kind of each setting of a model, in their order.

    Raises:
        TypeError: a setting is of a type that it cannot have.
    """
    for name, declared in settings.model_fields.items():
        for option in declared.metadata:
            if isinstance(option, Option):
                kind = _kind_of(declared)
                yield (
                    name,
                    declared,
                    option,
                    replace(
                        kind,
                        expected=option.expected or kind.expected,
                        regex=option.regex or kind.regex,
                    ),
                )


def _kind_of(declared: FieldInfo) -> Kind:
    base, said = _parsed(declared.annotation)
    said += declared.metadata
    if base is bool:
        return Kind(None, "true or false", "BOOLEAN", "^(true|false)$")
    if get_origin(base) is Literal:
        values = get_args(base)
        return _choice(values, " or ".join(values))
    if isinstance(base, type) and issubclass(base, Enum):
        values = tuple(member.value for member in base)
        return _choice(values, f"one of {', '.join(values)}", base)
    if any(isinstance(entry, BeforeValidator) and entry.func is as_share for entry in said):
        return Kind(ShareType(), "a share from 0 to 1 or a percentage such as 5%")
    if base is int:
        words = "a whole number greater than 0"
        return Kind(click.IntRange(1), words, "NUMBER", "^[1-9][0-9]*$")
    if base is float:
        limits: list[Any] = [e.le for e in said if isinstance(e, annotated_types.Le)]
        highest = limits[0] if limits else None
        words = f"a number above 0, up to {highest}" if limits else "a number greater than 0"
        return Kind(click.FloatRange(0, highest, min_open=True), words)
    if base is str:
        return Kind(click.STRING, "text")
    raise TypeError(f"a setting cannot be of the type {declared.annotation}")


def _choice(values: tuple[str, ...], words: str, enum: type[Enum] | None = None) -> Kind:
    return Kind(click.Choice(values), words, "ENUM", f"^({'|'.join(values)})$", values, enum)


def _parsed(annotation: Any) -> tuple[Any, list[Any]]:
    """A type without None and without `Annotated`, and what these say of it."""
    said: list[Any] = []
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *entries = get_args(annotation)
            for entry in entries:
                said += entry.metadata if isinstance(entry, FieldInfo) else [entry]
        elif get_origin(annotation) in (Union, types.UnionType):
            (annotation,) = (a for a in get_args(annotation) if a is not type(None))
        else:
            return annotation, said
