"""The command line inside the test process, and its output folder read back."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from pipeline import console
from pipeline.cli import cli
from transforms.flow import progress


@pytest.fixture(scope="session")
def citymask():
    """A function that runs a command line as the console script does, without a new process."""

    def run(*arguments: object) -> Result:
        with _logging_kept(), warnings.catch_warnings():
            return CliRunner().invoke(cli, [str(argument) for argument in arguments])

    return run


@dataclass(frozen=True)
class Output:
    """An output folder, read with pandas."""

    path: Path

    @property
    def rows(self) -> pd.DataFrame:
        return self._read("statistics")

    @property
    def failures(self) -> pd.DataFrame:
        return self._read("failures")

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.path / "summary.json").read_text(encoding="utf-8"))

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The run records, oldest first."""
        found = [json.loads(path.read_text()) for path in (self.path / "runs").glob("*.json")]
        return sorted(found, key=lambda record: record["started_at"])

    @property
    def masks(self) -> list[str]:
        return sorted(str(p.relative_to(self.path)) for p in self.path.glob("masks*/**/*.png"))

    def _read(self, folder: str) -> pd.DataFrame:
        files = sorted((self.path / folder).glob("*.parquet"))
        frames = [pd.read_parquet(file) for file in files]
        return (
            pd.concat(frames).sort_values("image").set_index("image", drop=False)
            if frames
            else pd.DataFrame()
        )


@pytest.fixture
def output(tmp_path) -> Output:
    return Output(tmp_path / "out")


@pytest.fixture(scope="session")
def output_at():
    """The class `Output`, for fixtures that live longer than a test."""
    return Output


@pytest.fixture
def logging_kept():
    """Puts logging back as it was, for tests that call the program themselves."""
    with _logging_kept():
        yield


@contextmanager
def _logging_kept() -> Iterator[None]:
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
