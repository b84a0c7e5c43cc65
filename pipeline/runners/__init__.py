"""Where a graph runs: in this process, on a portable runner, on Dataflow.

It may import `pipeline.errors` and `transforms`, and knows nothing of runs.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.runners import dataflow_options
from pipeline.runners.local import LocalRunner
from pipeline.runners.options import is_local, with_workers
from pipeline.runners.runner import Build, Metrics, Runner, Watch

__all__ = ["Build", "LocalRunner", "Metrics", "Runner", "Watch", "choose"]


def choose(given: Mapping[str, Any], work: str, workers: int = 1, gpu: str | None = None) -> Runner:
    """The runner that Beam's options name.

    Args:
        given: Beam's options as the user gave them.
        work: what the graph works on, such as its output folder; Dataflow runs one job for it at a
            time.
        workers: processes of this machine that share the work.
        gpu: GPUs of a worker, `TYPE[:COUNT]`; only Dataflow rents them.

    Raises:
        ConfigurationError: the runner is unknown, or options exclude each other.
    """
    options = dataflow_options.complete(with_workers(given, workers), work, gpu)
    # Imported once chosen: a local run does not wait for the clients of services.
    if dataflow_options.is_chosen(options):
        from pipeline.runners.dataflow import DataflowRunner

        return DataflowRunner(options, gpu)
    if not is_local(options):
        from pipeline.runners.portable import PortableJobRunner, is_portable

        if is_portable(options):
            return PortableJobRunner(options)
    return LocalRunner(options)
