"""The command `citymask run`, whole: checks, lock, listing, masks, rows, summary, record.

What its engine imports is timed, as in the bare loop.
"""

from pathlib import Path

import pipeline.commands.run  # noqa: F401 - Beam, which is not timed.
from pipeline.cli import cli


def run(archive: Path | str, output: Path | str, model: str) -> None:
    arguments = ["run", str(archive), "--output", str(output), "--model", model, "--quiet"]
    try:
        cli.main(arguments, prog_name="citymask", standalone_mode=False)
    except SystemExit as end:
        if end.code:
            raise
