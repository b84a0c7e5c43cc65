"""Command-line options derived from settings, and options that commands share."""

import functools
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import click
from pydantic import BaseModel

from pipeline.runners.options import split_arguments
from pipeline.runs.kinds import Kind, kinds_of

Days = tuple[date | None, date | None]
"""First and last day; None for no beginning or end."""

_DAY = click.DateTime(["%Y-%m-%d"])


class BeamCommand(click.Command):
    """A command that also accepts all options of Beam."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not {"-h", "--help"} & set(args):
            args, ctx.obj = split_arguments(args)
        return super().parse_args(ctx, args)


def settings_options(
    settings: type[BaseModel], only: tuple[str, ...] = ()
) -> Callable[[Callable], Callable]:
    """Add an option for each setting to a command, as a parameter of the setting's name.

    Args:
        settings: the model that declares them.
        only: names of the settings to add; empty: all.
    """

    def decorate(command: Callable) -> Callable:
        for name, declared, option, kind in reversed(list(kinds_of(settings))):
            if not only or name in only:
                command = _option(
                    name, declared.default, option.metavar, declared.description, kind
                )(command)
        return command

    return decorate


def _option(
    name: str, default: Any, metavar: str, text: str | None, kind: Kind
) -> Callable[[Callable], Callable]:
    flag = f"--{name.replace('_', '-')}"
    if kind.click_type is None:
        return click.option(flag, is_flag=True, help=text)
    enum = kind.enum
    return click.option(
        flag,
        type=kind.click_type,
        default=default.value if enum else default,
        show_default=default is not None,
        metavar=metavar or None,
        callback=(lambda _, __, value: enum(value)) if enum else None,
        help=text,
    )


def day_options(command: Callable) -> Callable:
    """Add `--date`, `--from` and `--to` to a command, as its parameter `days`."""

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
