"""Beam's options on citymask's command line."""

import click
import pytest
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from pipeline.runners.options import IN_PROCESS_RUNNER, pipeline_options, split_arguments


def test_options_of_beam_are_taken_out_of_the_command_line():
    rest, given = split_arguments(
        ["in", "--output", "out", "--runner=DataflowRunner", "--project", "p", "--overlay",
         "--max_num_workers", "7", "--dataflow_service_options=a", "--dataflow_service_options=b"]
    )  # fmt: skip
    assert rest == ["in", "--output", "out", "--overlay"]
    options = pipeline_options(given)
    assert options.view_as(StandardOptions).runner == "DataflowRunner"
    assert options.view_as(WorkerOptions).max_num_workers == 7
    cloud = options.view_as(GoogleCloudOptions)
    assert (cloud.project, cloud.dataflow_service_options) == ("p", ["a", "b"])


def test_flags_of_beam_are_taken_out_without_a_value():
    rest, given = split_arguments(["--save_main_session", "in", "-o", "out"])
    assert rest == ["in", "-o", "out"]
    assert pipeline_options(given).view_as(SetupOptions).save_main_session is True


def test_options_of_citymask_are_never_taken_for_short_forms_of_beam_options():
    arguments = ["in", "--output", "out", "--model", "m", "--quiet", "--verbose", "-q", "-v"]
    arguments += ["--max-failures", "5%", "--max-pixels", "9", "--batch-size", "2", "--overlay"]
    assert split_arguments(arguments) == (arguments, {})


@pytest.mark.parametrize("arguments", [[], ["--runner", "DirectRunner"]])
def test_the_direct_runner_is_the_one_inside_this_process(arguments):
    _, given = split_arguments(arguments)
    assert pipeline_options(given).view_as(StandardOptions).runner == IN_PROCESS_RUNNER


def test_options_that_are_not_set_keep_the_defaults_of_beam():
    options = pipeline_options({})
    assert options.view_as(DirectOptions).direct_num_workers == 1


def test_a_bad_value_is_wrong_usage():
    with pytest.raises(click.UsageError, match="direct_num_workers"):
        split_arguments(["--direct_num_workers", "many"])


@pytest.fixture
def archive(tmp_path, make_photo):
    make_photo(tmp_path / "in" / "a.jpg")
    return tmp_path / "in"


def test_an_option_of_beam_reaches_the_run(citymask, archive, output, tiny_model):
    result = citymask(
        "run", archive, "--output", output.path, "--model", tiny_model,
        "--runner", "DirectRunner", "--direct_num_workers=1", "--job_name", "nightly",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert list(output.rows["image"]) == ["a.jpg"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--direct_num_workers", "many"], "--direct_num_workers: invalid int value: 'many'"),
        (["--overlays"], "No such option: --overlays"),
        (["--direct_num_worker", "2"], "No such option: --direct_num_worker"),
        (["--max-failures", "150%"], "not a share from 0 to 1"),
        (["--runner", "NoSuchRunner"], "NoSuchRunner"),
    ],
)
def test_wrong_options_end_with_one_clear_line_and_exit_code_2(
    citymask, archive, output, tiny_model, arguments, line
):
    result = citymask("run", archive, "-o", output.path, "--model", tiny_model, *arguments)
    assert result.exit_code == 2
    (error,) = [entry for entry in result.output.splitlines() if entry.startswith("Error")]
    assert line in error.replace("No such option '", "No such option: ").replace("'.", "")
    assert output.rows.empty and output.masks == []


def test_an_option_that_is_nearly_one_is_answered_with_a_suggestion(citymask, archive, output):
    result = citymask("run", archive, "-o", output.path, "--max-failure", "5%")
    assert result.exit_code == 2
    assert "--max-failures" in result.output
