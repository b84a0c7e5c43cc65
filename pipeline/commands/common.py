"""What commands share: exit codes, the one-line refusal, types of options, Beam's options."""

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from models.classes import ClassTable
from models.engines import EngineError, EngineName, Precision
from models.inputs import SHAPE_MULTIPLE
from models.packages import PackageError
from pipeline.errors import (
    EXIT_CONFIGURATION,
    EXIT_LOCKED,
    EXIT_UNEXPECTED,
    ConfigurationError,
    JobError,
    message,
)
from pipeline.runners.options import split_arguments
from transforms.output.locking import LockedError

CLASS_FILE = "classes.csv"
"""The class table beside labelled photos."""

Days = tuple[date | None, date | None]
"""First and last day; None for no beginning or end."""

_DAY = click.DateTime(["%Y-%m-%d"])


class Refused(click.ClickException):
    """One clear line, and the exit code of wrong usage or configuration."""

    exit_code = EXIT_CONFIGURATION


class Held(click.ClickException):
    """One clear line, and the exit code of an output folder that another run holds."""

    exit_code = EXIT_LOCKED


class Broken(click.ClickException):
    """One clear line, and the exit code of work that did not come to its end."""

    exit_code = EXIT_UNEXPECTED


@contextmanager
def foreseen_errors() -> Iterator[None]:
    """Turn what can go wrong before or around the work into one line and its exit code."""
    try:
        yield
    except LockedError as error:
        raise Held(str(error)) from error
    except (ConfigurationError, EngineError, PackageError) as error:
        raise Refused(message(error)) from error
    except JobError as error:
        raise Broken(str(error)) from error


class Share(click.ParamType):
    """A share from 0 to 1, also written as a percentage."""

    name = "share"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        text = str(value)
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.fail(f"{text!r} is not a share from 0 to 1 or a percentage such as 5%", param, ctx)
        return share


class Size(click.ParamType):
    """Width and height in pixels, multiples of what networks ask for."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        found = re.fullmatch(r"(\d+)x(\d+)", str(value))
        size = (int(found[1]), int(found[2])) if found else (0, 0)
        if not all(size) or any(side % SHAPE_MULTIPLE for side in size):
            self.fail(
                f"{value!r} is not WIDTHxHEIGHT in multiples of {SHAPE_MULTIPLE}, such as 512x384",
                param, ctx,
            )  # fmt: skip
        return size


class BeamCommand(click.Command):
    """A command whose line may also hold any option of Beam."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not {"-h", "--help"} & set(args):
            args, ctx.obj = split_arguments(args)
        return super().parse_args(ctx, args)


def class_table(data: str, classes: str | None = None) -> ClassTable:
    """The classes of labelled photos: those asked for, else what stands beside them, else CamVid's.

    Raises ValueError or OSError where the table is missing or wrong.
    """
    beside = Path(data, CLASS_FILE)
    return ClassTable.load(classes or (beside if beside.exists() else "camvid"))


def engine_options(command: Callable) -> Callable:
    """Give a command `--engine` and `--precision`, which it takes as members of their enums."""
    for option, choices, text in (
        ("--engine", EngineName, "What runs the network; auto: the fastest that this machine has."),
        ("--precision", Precision, "Arithmetic of the network; f32: bit-stable on one machine."),
    ):
        values = click.Choice([choice.value for choice in choices])
        command = click.option(
            option, type=values, default=choices.AUTO.value, show_default=True, help=text,
            callback=lambda _, __, value, choices=choices: choices(value),
        )(command)  # fmt: skip
    return command


def day_options(command: Callable) -> Callable:
    """Give a command `--date`, `--from` and `--to`, which it takes as `days`."""

    @click.option("--date", "day", type=_DAY, metavar="D", help="Only images of this day.")
    @click.option("--from", "first", type=_DAY, metavar="D", help="Only of this day or later.")
    @click.option("--to", "last", type=_DAY, metavar="D", help="Only of this day or earlier.")
    @functools.wraps(command)
    def with_days(
        *arguments: Any,
        day: datetime | None,
        first: datetime | None,
        last: datetime | None,
        **options: Any,
    ) -> Any:
        if day and (first or last):
            raise click.UsageError("--date excludes --from and --to")
        if first and last and first > last:
            raise click.UsageError(f"--from {first:%F} is later than --to {last:%F}")
        first, last = first or day, last or day
        days = (first and first.date(), last and last.date()) if first or last else None
        return command(*arguments, days=days, **options)

    return with_days
