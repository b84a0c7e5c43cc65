"""The interface of a runner, and the function that creates pipelines."""

import gc
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineRunner

from pipeline.errors import ConfigurationError

logger = logging.getLogger(__name__)

Build = Callable[[beam.Pipeline], object]
"""Adds the steps of a graph to an empty pipeline."""


@dataclass(frozen=True)
class Metrics:
    """The Beam metrics of a graph, summed over its steps.

    Attributes:
        known: whether the runner has metrics; without them the others are empty.
        counters: by namespace and name.
        distributions: Beam's `DistributionResult` by name.
    """

    known: bool
    counters: Mapping[tuple[str, str], int]
    distributions: Mapping[str, Any]

    @classmethod
    def of(cls, result: PipelineResult) -> "Metrics":
        """The metrics of a running or finished graph."""
        try:
            query = result.metrics().query()
        except (NotImplementedError, grpc.RpcError) as error:
            logger.info("the runner has no metrics: %s", type(error).__name__)
            return cls(False, {}, {})
        counters: Counter[tuple[str, str]] = Counter()
        for entry in query["counters"]:
            # Beam returns None for a 0 of a portable runner.
            counters[entry.key.metric.namespace, entry.key.metric.name] += entry.result or 0
        return cls(True, counters, {m.key.metric.name: m.result for m in query["distributions"]})

    def in_namespace(self, namespace: str) -> dict[str, int]:
        """The counters of one namespace by name."""
        return {name: n for (space, name), n in self.counters.items() if space == namespace}


Watch = Callable[[Metrics], object]
"""Called repeatedly with the current metrics while a graph runs elsewhere."""


class Runner(ABC):
    """One way to run a graph.

    Attributes:
        options: Beam's options: the given ones, and the runner's defaults for the others.
        has_other_machines: whether workers may run on machines that have neither this disk nor the
            packages that are installed here.
        hints: Beam's resource hints for the step that runs the network.
        notes: messages for the user before the work starts.
    """

    has_other_machines = False
    hints: Mapping[str, str] = {}
    notes: Sequence[str] = ()

    def __init__(self, options: Mapping[str, Any]):
        self.options = dict(options)

    def check(self, paths: Sequence[str]) -> None:  # noqa: B027 - there may be nothing to check
        """Check the options before any work.

        Args:
            paths: paths that the workers read and write.

        Raises:
            ConfigurationError: an option is missing or wrong, or workers cannot see a path.
            LockedError: another job does the same work.
        """

    @abstractmethod
    def run(self, build: Build, watch: Watch | None = None) -> Metrics:
        """Run a graph until it ends.

        Args:
            build: adds the steps of the graph.
            watch: called with the current metrics if the graph runs elsewhere.

        Raises:
            ConfigurationError: Beam misses an option for the runner.
            JobError: the graph was not taken, or did not end as done.
            KeyboardInterrupt: it was interrupted from here, and is being cancelled.
        """


def start(
    build: Build, options: PipelineOptions, runner: PipelineRunner | None = None
) -> PipelineResult:
    """Start a graph on its runner; the in-process runner returns after it has finished.

    Args:
        build: adds the steps of the graph.
        options: options of the pipeline.
        runner: the runner; None: the one named by the options.

    Raises:
        ConfigurationError: Beam does not know the runner or misses an option for it.
    """
    try:
        pipeline = beam.Pipeline(runner, options)
    except ValueError as error:
        raise ConfigurationError(f"Beam: {' '.join(str(error).split())}") from error
    build(pipeline)
    # Objects loaded so far stay alive; exclude them from garbage collection.
    gc.freeze()
    try:
        return pipeline.run()
    finally:
        gc.unfreeze()
