"""`citymask workers`: starts workers for jobs of Beam's portable runners."""

import click

from pipeline import console
from pipeline.commands.common import foreseen_errors
from pipeline.runners import pool


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=50000,
    show_default=True,
    help="Port on which the runner asks for workers.",
)
def workers(port: int) -> None:
    """Start workers on this machine whenever a job of a portable runner asks for them.

    Keep it running on every machine of the cluster, and give its address to the job:
    --environment_type EXTERNAL --environment_config localhost:PORT. A job needs the same version of
    citymask, Python and Beam here as where it is launched. Ctrl-C ends it and its workers.
    """
    console.set_up_logging(console.VERBOSE)
    with foreseen_errors():
        pool.serve(port)
