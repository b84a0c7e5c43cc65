"""The command line: its commands, and how errors and signals end it.

It imports nothing heavy: a command's module, and Beam with it, is imported by `main`.
"""

import atexit
import gc
import sys
import traceback
from importlib import import_module

import click

from models.texts import printable_lines
from pipeline import __version__, streams
from pipeline.errors import EXIT_SIGNAL, EXIT_UNEXPECTED, first_line
from pipeline.interrupts import RaiseOnSignal

COLLECT_AFTER = 50_000
"""New objects after which Python collects garbage. Almost everything imported at the start stays;
Python's default of 700 would collect some 500 times during the imports, to no use."""

COMMANDS = (
    "run", "nightly", "compact", "train", "import", "quantise", "calibrate", "evaluate", "models",
    "verify", "report", "export", "indicators", "workers",
)  # fmt: skip

MODULES = {"import": "import_model"}
"""Modules of commands whose names cannot be a module's."""


class CommandsByName(click.Group):
    """Commands, each in a module of its own, which is imported once the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = MODULES.get(cmd_name, cmd_name)
        return getattr(import_module(f"pipeline.commands.{name}"), name)


@click.group(cls=CommandsByName, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="citymask")
def cli() -> None:
    """Turn a city's image archive into class masks and per-class pixel statistics."""


def main() -> None:
    """Run the command line; any error ends it with one line and the exit code for its kind."""
    streams.secure()
    gc.set_threshold(COLLECT_AFTER)
    atexit.register(gc.freeze)  # What is left at the end goes with the process.
    signals = RaiseOnSignal()
    try:
        code = cli.main(prog_name="citymask", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code)
    except streams.UnprintedError as error:
        if not error.unwanted:
            click.echo(f"Error: {error}", err=True)
            sys.exit(EXIT_UNEXPECTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (Exception, KeyboardInterrupt) as error:
        if signals.received:
            click.echo(
                f"Interrupted ({signals.received.name}); the next run resumes where this one "
                "stopped.", err=True
            )  # fmt: skip
            sys.exit(EXIT_SIGNAL + signals.received)
        if {"--verbose", "-v"} & set(sys.argv):
            text = "".join(traceback.format_exception(error))
        else:
            text = (
                f"Error: {type(error).__name__}: {first_line(error)}\n"
                "Run with --verbose to see where."
            )
        click.echo(printable_lines(text), err=True)
        sys.exit(EXIT_UNEXPECTED)
