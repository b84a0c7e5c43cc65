"""Beam's options on citymask's command line, parsed by Beam's own parser."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import click
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.errors import ConfigurationError

T = TypeVar("T", bound=PipelineOptions)

IN_PROCESS_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""What `DirectRunner` stands for here. Beam's own switch of that name may download a binary."""

LOCAL_RUNNER = "DirectRunner"
LOCAL_WORKERS = {"direct_num_workers", "direct_running_mode"}
"""Beam's options for parallelism of the local runner."""

PRELOADED = "pipeline.runners.preloaded"
"""The module that workers import before anything else."""

IN_PROCESSES = "multi_processing"
"""Beam's name for several worker processes on this machine."""


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Split a command line into citymask's arguments and the given Beam options.

    Raises:
        click.UsageError: a Beam option has an invalid value.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        # Private, but the only way to Beam's own parser; `PipelineOptions(flags)` parses alone and
        # takes unknown flags in silence.
        options._add_argparse_args(parser)
    known, rest = parser.parse_known_args(list(arguments))
    given = {k: v for k, v in vars(known).items() if v != parser.get_default(k)}
    return rest, given


def pipeline_options(given: dict[str, Any]) -> PipelineOptions:
    """Options for a pipeline; the local runner is Beam's in-process runner."""
    options = {**given, "beam_plugins": [*(given.get("beam_plugins") or ()), PRELOADED]}
    if is_local(options):
        options["runner"] = IN_PROCESS_RUNNER
    return _Options(flags=[], **options)


def is_local(given: Mapping[str, Any]) -> bool:
    """Whether the Beam options name the local runner, or none."""
    return given.get("runner", LOCAL_RUNNER) == LOCAL_RUNNER


def with_workers(given: Mapping[str, Any], workers: int) -> dict[str, Any]:
    """The given Beam options, plus those for `workers` processes on this machine.

    Raises:
        ConfigurationError: another runner is chosen, or Beam's own options for this are given.
    """
    if workers == 1:
        return dict(given)
    taken = sorted(given.keys() & LOCAL_WORKERS)
    if taken:
        raise ConfigurationError(f"--workers and --{taken[0]} exclude each other: give one of them")
    if not is_local(given):
        raise ConfigurationError(
            f"--workers: only on this machine; {given['runner']} has options of its own for this"
        )
    return {**given, "direct_num_workers": workers, "direct_running_mode": IN_PROCESSES}


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
