"""`citymask models`: lists the shipped models."""

import click

from models.packages import load_package, shipped_names
from pipeline import console


@click.command()
def models() -> None:
    """List the shipped models."""
    console.print_models([load_package(name) for name in shipped_names()])
