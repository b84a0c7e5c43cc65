"""The local runner: a graph runs in this process, or in several of this machine."""

import gc
from collections.abc import Callable

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from pipeline.graph import Job, build_graph
from pipeline.runners.options import new_pipeline


def execute(
    job: Job,
    beam_options: PipelineOptions,
    build: Callable[[beam.Pipeline, Job], object] = build_graph,
) -> PipelineResult:
    """Run the graph of a job to its end.

    Raises:
        ConfigurationError: Beam does not know the runner or misses an option for it.
    """
    result = start(job, beam_options, build)
    result.wait_until_finish()
    return result


def start(
    job: Job,
    beam_options: PipelineOptions,
    build: Callable[[beam.Pipeline, Job], object] = build_graph,
) -> PipelineResult:
    """Give the graph of a job to its runner; the one inside this process runs it to its end.

    Raises:
        ConfigurationError: Beam does not know the runner or misses an option for it.
    """
    pipeline = new_pipeline(beam_options)
    build(pipeline, job)
    # What is loaded by now stays; the collector need not go through it again and again.
    gc.freeze()
    try:
        return pipeline.run()
    finally:
        gc.unfreeze()
