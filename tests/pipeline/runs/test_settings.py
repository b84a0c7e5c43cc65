"""Settings: one declaration gives the option, the key, the entry in the record, the parameter."""

import json
import runpy
from pathlib import Path
from typing import Annotated

import click
import pytest
from click.testing import CliRunner
from pydantic import Field

from models.engines import Precision
from pipeline.commands.evaluate import evaluate
from pipeline.commands.options import settings_options
from pipeline.commands.run import run
from pipeline.errors import ConfigurationError
from pipeline.nights.config import load_config
from pipeline.runners import Metrics
from pipeline.runs.kinds import kinds_of
from pipeline.runs.record import make_record, utc_now
from pipeline.runs.request import RunRequest, check, make_job
from pipeline.runs.settings import LIMITS, Count, Option, Settings

DEPLOY = Path(__file__).resolve().parents[3] / "deploy" / "dataflow"
metadata = runpy.run_path(str(DEPLOY / "write_metadata.py"))["metadata"]

NO_METRICS = Metrics(False, {}, {})


class MoreSettings(Settings):
    """The settings, and one more."""

    max_kittens: Annotated[Count | None, Option("Most kittens", "N", section=LIMITS)] = Field(
        None, description="Take at most N kittens."
    )


class MoreRequest(RunRequest, MoreSettings):
    """A request with one more setting."""


class TestOneMoreSetting:
    def test_is_an_option_of_the_command_line(self):
        taken = {}
        take = settings_options(MoreSettings)(lambda **options: taken.update(options))
        command = click.command()(take)
        result = CliRunner().invoke(command, ["--max-kittens", "7"])
        assert (result.exit_code, taken["max_kittens"]) == (0, 7)
        assert "--max-kittens N" in CliRunner().invoke(command, ["--help"]).output
        refused = CliRunner().invoke(command, ["--max-kittens", "0"])
        assert (refused.exit_code, "0 is not in the range x>=1" in refused.output) == (2, True)

    def test_is_a_key_of_the_nightly_file(self, tmp_path):
        file = tmp_path / "nightly.yaml"
        file.write_text("inputs: [a]\noutput: b\nlimits: {max_kittens: 7}\n")
        assert load_config(file, MoreSettings).settings(MoreSettings)["max_kittens"] == 7
        file.write_text("inputs: [a]\noutput: b\nlimits:\n  max_kittens: many\n")
        with pytest.raises(ConfigurationError) as refused:
            load_config(file, MoreSettings)
        assert str(refused.value) == (
            f"{file}:4: limits.max_kittens: expected a whole number greater than 0, found 'many'"
        )

    def test_stands_in_the_run_record(self, tmp_path, make_photo, tiny_model):
        make_photo(tmp_path / "in" / "a.jpg")
        request = MoreRequest(
            inputs=(str(tmp_path / "in"),), output=str(tmp_path / "out"), model=str(tiny_model),
            max_kittens=7,
        )  # fmt: skip
        job, _ = make_job(request, *check(request), "run1")
        (tmp_path / "out" / "statistics").mkdir(parents=True)
        (tmp_path / "out" / "summary.json").write_text(
            '{"images": {"done": 0, "failed": 0, "skipped": 0}, "classes": [], "groups": {}}'
        )
        record = make_record(request, job, {}, NO_METRICS, utc_now(), 1.0)
        assert json.loads(record.to_json())["options"]["max_kittens"] == 7

    def test_is_a_parameter_of_the_flex_template(self):
        known = {parameter["name"]: parameter for parameter in metadata(MoreSettings)["parameters"]}
        assert known["max_kittens"] == {
            "name": "max_kittens", "label": "Most kittens", "helpText": "Take at most N kittens.",
            "paramType": "NUMBER", "isOptional": True, "regexes": ["^[1-9][0-9]*$"],
        }  # fmt: skip


def test_the_flex_templates_file_is_current():
    written = json.loads((DEPLOY / "metadata.json").read_text(encoding="utf-8"))
    assert written == metadata(), "run python deploy/dataflow/write_metadata.py"


def test_every_setting_stands_in_the_run_record(citymask, output, tmp_path, make_photo, tiny_model):
    make_photo(tmp_path / "in" / "a.jpg")
    result = citymask(
        "run", tmp_path / "in", "-o", output.path, "--model", tiny_model, "--max-minutes", "60",
        "--max-failures", "5%",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    options = output.runs[0]["options"]
    assert set(Settings.model_fields) < set(options)
    assert (options["gpu"], options["require_gpu"], options["max_minutes"]) == (None, False, 60.0)
    assert (options["max_failures"], options["engine"], options["by"]) == (0.05, "auto", "arrival")


def test_a_nightly_file_has_what_the_command_line_has(tmp_path):
    file = tmp_path / "nightly.yaml"
    file.write_text(
        "inputs: [a]\noutput: b\ngpu: nvidia-l4\nrequire_gpu: true\nretry_failed: true\n"
    )
    settings = load_config(file).settings()
    assert (settings["gpu"], settings["require_gpu"], settings["retry_failed"]) == (
        "nvidia-l4", True, True,
    )  # fmt: skip
    assert set(Settings.model_fields) - set(settings) == {"force"}


def test_every_choice_stands_in_the_table_of_the_nightly_file():
    page = (DEPLOY.parents[1] / "docs" / "nightly.md").read_text(encoding="utf-8")
    for name, _, option, kind in kinds_of(Settings):
        if kind.choices and option.section == "":
            assert f"| `{name}` | {', '.join(f'`{value}`' for value in kind.choices)} |" in page


@pytest.mark.parametrize("precision", Precision)
def test_every_precision_can_be_asked_for(tmp_path, precision):
    file = tmp_path / "nightly.yaml"
    file.write_text(f"inputs: [a]\noutput: b\nprecision: {precision.value}\n")
    assert load_config(file).settings()["precision"] is precision
    for command in (run, evaluate):
        (option,) = (entry for entry in command.params if entry.name == "precision")
        assert precision.value in option.type.choices
