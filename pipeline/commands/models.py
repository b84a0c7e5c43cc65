"""`citymask models`: lists the shipped models, or published networks that can be imported."""

import click

from models.known import known_models
from models.packages import load_package, shipped_names
from pipeline import console


@click.command()
@click.option(
    "--known", is_flag=True, help="List published networks worth importing instead, with commands."
)
def models(known: bool) -> None:
    """List the shipped models.

    With --known, networks published elsewhere are listed, each with the command that imports it.
    Nothing is downloaded.
    """
    if known:
        console.print_known_models(known_models())
    else:
        console.print_models([load_package(name) for name in shipped_names()])
