"""`citymask models`: what models come with the program."""

import click

from models.packages import load_package, shipped_names
from pipeline import console


@click.command()
def models() -> None:
    """List the models that come with citymask."""
    console.print_models([load_package(name) for name in shipped_names()])
