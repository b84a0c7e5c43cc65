"""Entry point of the Flex Template's launcher: converts its parameters to a `citymask run`.

The launcher calls this file with `--NAME=VALUE` for each given parameter, and adds options of Beam
(`--runner`, `--project`, `--template_location`, ...), which are passed on unchanged. Parameters
have the names of the options of `citymask run`, with `_` for `-`, except `inputs`: all INPUTs,
separated by `;`. A flag is `true` or `false`.
"""

import sys
from collections.abc import Collection, Iterator

import click

from pipeline.cli import main
from pipeline.commands.run import run

INPUTS = "inputs"
SEPARATOR = ";"
ON_DATAFLOW = "--runner=DataflowRunner"
NO_WAIT = "--no-wait"
"""Added since the job starts only after the launcher has exited."""

OPTIONS = {
    name.removeprefix("--").replace("-", "_"): option
    for option in run.params
    if isinstance(option, click.Option)
    for name in option.opts
    if name.startswith("--")
}


def command_line(arguments: Collection[str]) -> list[str]:
    """The arguments of citymask for the launcher's arguments.

    Raises:
        click.UsageError: a flag is neither true nor false.
    """
    no_wait = [NO_WAIT] if ON_DATAFLOW in arguments else []
    return ["run", *no_wait, *(word for argument in arguments for word in _words(argument))]


def _words(argument: str) -> Iterator[str]:
    name, _, value = argument.removeprefix("--").partition("=")
    option = OPTIONS.get(name)
    if name == INPUTS:
        yield from filter(None, map(str.strip, value.split(SEPARATOR)))
    elif option is None:
        yield argument
    elif not option.is_flag:
        yield from (option.opts[0], value) if value else ()
    elif value not in ("", "true", "false"):
        raise click.UsageError(f"{name}: {value!r} is neither true nor false")
    elif value == "true":
        yield option.opts[0]


if __name__ == "__main__":
    try:
        sys.argv[1:] = command_line(sys.argv[1:])
    except click.UsageError as error:
        error.show()
        sys.exit(error.exit_code)
    main()
