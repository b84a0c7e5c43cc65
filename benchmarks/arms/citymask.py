"""The whole command `citymask run`: checks, lock, listing, masks, rows, summary, record.

The imports of its engine are timed, as in the bare loop.
"""

from pathlib import Path

import pipeline.commands.run  # noqa: F401 - Imports Beam, which is not timed.
from pipeline.cli import cli


def run(archive: Path | str, output: Path | str, model: str, *options: str) -> None:
    words = ["run", str(archive), "--output", str(output), "--model", model, "--quiet", *options]
    try:
        cli.main(words, prog_name="citymask", standalone_mode=False)
    except SystemExit as end:
        if end.code:
            raise
