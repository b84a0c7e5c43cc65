"""The output folder of a run, read back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests import command_line


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


@pytest.fixture
def archive(tmp_path, make_photo) -> Path:
    """Four photos in one folder."""
    for number in range(4):
        make_photo(tmp_path / "archive" / "lund" / f"{number}.jpg", seed=number)
    return tmp_path / "archive"


@pytest.fixture
def run(citymask, archive, output, tiny_model):
    """A function that runs over the archive, or other inputs, and expects an exit code."""

    def run(*options, inputs=(archive,), code=0):
        result = citymask("run", *inputs, "-o", output.path, "--model", tiny_model, *options)
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture(scope="session")
def output_at():
    """The class `Output`, for fixtures that live longer than a test."""
    return Output


@pytest.fixture
def logging_kept():
    """Puts logging back as it was, for tests that call the program themselves."""
    with command_line.logging_kept():
        yield
