"""`citymask compact`: merges many small Parquet files into few large ones."""

import os

import click

from pipeline import console, streams
from pipeline.commands.common import Refused, foreseen_errors
from pipeline.runs import request as runs
from transforms import storage
from transforms.output import columns
from transforms.output.compacting import compact as merge_files


@click.command()
@click.argument("output", metavar="OUT")
def compact(output: str) -> None:
    """Merge the small Parquet files of OUT into few large ones; the rows are unchanged.

    OUT is the output folder of `citymask run`. Whoever reads it meanwhile finds every row once; who
    has listed the files just before finds them gone ("file not found") and reads again.
    """
    streams.results_are_in_files()
    if not storage.store_of(output).local_paths:
        raise Refused(
            f"{output}: only the folders of a local file system can change places at once"
        )
    output = os.path.abspath(output)
    if not os.path.isdir(os.path.join(output, columns.STATISTICS)):
        raise Refused(
            f"{output}: no folder {columns.STATISTICS} there; give the output folder of a run"
        )
    owner = runs.named("compact")
    with foreseen_errors(), runs.locked(output, owner):
        try:
            compacted = merge_files(output, owner=owner)
        except storage.StorageError as error:
            raise Refused(str(error)) from error
    for folder in compacted:
        if folder.after < folder.before:
            became = f"{folder.before:,} files became {folder.after:,} ({folder.rows:,} rows)"
        else:
            became = "nothing to merge"
        console.say(f"{folder.folder}: {became}")
