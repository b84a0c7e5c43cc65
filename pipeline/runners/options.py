"""Beam's options on citymask's command line, and pipelines that have them.

Beam's parser takes what it knows.
"""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import apache_beam as beam
import click
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipeline.errors import ConfigurationError

T = TypeVar("T", bound=PipelineOptions)

IN_PROCESS_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""What `DirectRunner` stands for here. Beam's own switch of that name may download a binary."""

LOCAL_RUNNER = "DirectRunner"
LOCAL_WORKERS = {"direct_num_workers", "direct_running_mode"}
"""Beam's options on how the local runner shares the work."""

IN_PROCESSES = "multi_processing"
WORKER = f"exec {shlex.quote(sys.executable)} -m pipeline.runners.worker"
"""The shell's command for one of several processes of the local runner."""


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Split a command line into what is left for citymask and the Beam options that are set.

    Raises:
        click.UsageError: a Beam option has a value that Beam does not take.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    known, rest = parser.parse_known_args(list(arguments))
    given = {k: v for k, v in vars(known).items() if v != parser.get_default(k)}
    return rest, given


def pipeline_options(given: dict[str, Any]) -> PipelineOptions:
    """Options for a pipeline; the local runner is the one inside this process."""
    options = dict(given)
    if options.get("runner", LOCAL_RUNNER) == LOCAL_RUNNER:
        options["runner"] = IN_PROCESS_RUNNER
    return _Options(flags=[], **options)


def with_workers(given: Mapping[str, Any], workers: int) -> dict[str, Any]:
    """The Beam options given, and those that have so many processes of this machine share the work.

    Raises:
        ConfigurationError: another runner is chosen, or Beam's own options for this are given.
    """
    if workers == 1:
        return dict(given)
    taken = sorted(given.keys() & LOCAL_WORKERS)
    if taken:
        raise ConfigurationError(f"--workers and --{taken[0]} exclude each other: give one of them")
    if given.get("runner", LOCAL_RUNNER) != LOCAL_RUNNER:
        raise ConfigurationError(
            f"--workers: only on this machine; {given['runner']} has options of its own for this"
        )
    return {**given, "direct_num_workers": workers, "direct_running_mode": IN_PROCESSES}


def new_pipeline(options: PipelineOptions) -> beam.Pipeline:
    """A pipeline without steps.

    Raises:
        ConfigurationError: Beam does not know the runner or misses an option for it.
    """
    runner = None
    direct = options.view_as(DirectOptions)
    in_processes = direct.direct_running_mode == IN_PROCESSES
    if in_processes and options.view_as(StandardOptions).runner == IN_PROCESS_RUNNER:
        from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

        # Beam would start its own workers, which a Ctrl-C ends at once.
        direct.direct_running_mode = "in_memory"
        runner = FnApiRunner(SubprocessSDKEnvironment.from_command_string(WORKER))
    try:
        return beam.Pipeline(runner, options)
    except ValueError as error:
        raise ConfigurationError(f"Beam: {' '.join(str(error).split())}") from error


class _Options(PipelineOptions):
    """Options that keep their views: Beam asks for a thousand, and each has a parser of its own."""

    def view_as(self, cls: type[T]) -> T:
        views = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise click.UsageError(f"Beam option: {message}")
