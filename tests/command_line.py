"""The command line inside the test process."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from click.testing import CliRunner, Result

from pipeline import console
from pipeline.cli import cli
from transforms.flow import progress


def citymask(*arguments: object) -> Result:
    """Run a command line as the console script does, without a new process."""
    with logging_kept(), warnings.catch_warnings():
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@contextmanager
def logging_kept() -> Iterator[None]:
    """The command line sets up logging for its process; here that is the process of the tests."""
    loggers = [logging.getLogger(name) for name in ("", *console.PACKAGES, progress.logger.name)]
    saved = [(entry.level, entry.propagate) for entry in loggers]
    handlers, logging.root.handlers[:] = list(logging.root.handlers), []
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        for entry, (level, propagate) in zip(loggers, saved, strict=True):
            entry.setLevel(level)
            entry.propagate = propagate
