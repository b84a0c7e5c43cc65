"""The command line: its commands, and how it ends whatever goes wrong."""

import sys

import click

from pipeline import __version__
from pipeline.commands.common import EXIT_SIGNAL, EXIT_UNEXPECTED, first_line
from pipeline.commands.compact import compact
from pipeline.commands.evaluate import evaluate
from pipeline.commands.models import models
from pipeline.commands.nightly import nightly
from pipeline.commands.run import run
from pipeline.commands.train import train
from pipeline.commands.verify import verify
from pipeline.signals import RaiseOnSignal


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="citymask")
def cli() -> None:
    """Turn a city's image archive into class masks and per-class pixel statistics."""


for command in (run, nightly, compact, train, evaluate, models, verify):
    cli.add_command(command)


def main() -> None:
    """Run the command line; whatever goes wrong ends with one line and the contract's exit code."""
    signals = RaiseOnSignal()
    try:
        sys.exit(cli.main(prog_name="citymask", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (Exception, KeyboardInterrupt) as error:
        if signals.received:
            click.echo(
                f"Interrupted ({signals.received.name}); the next run goes on from what is "
                "committed.", err=True
            )  # fmt: skip
            sys.exit(EXIT_SIGNAL + signals.received)
        if {"--verbose", "-v"} & set(sys.argv):
            raise
        click.echo(
            f"Error: {type(error).__name__}: {first_line(error)}\n"
            "Run with --verbose to see where.", err=True
        )  # fmt: skip
        sys.exit(EXIT_UNEXPECTED)
