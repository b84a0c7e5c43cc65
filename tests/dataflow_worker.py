"""Runs a staged job as a worker of Dataflow does: with its graph, and with what was staged for it.

    python dataflow_worker.py GRAPH METRICS

GRAPH is the staged pipeline; METRICS is written: JSON, a list of [kind, namespace, name, value].
"""

import json
import sys
from pathlib import Path

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner


def run_graph(graph: bytes) -> list[tuple]:
    """Run a staged pipeline in this process; its metrics as (kind, namespace, name, value)."""
    pipeline = beam_runner_api_pb2.Pipeline.FromString(graph)
    for environment in pipeline.components.environments.values():
        environment.urn, environment.payload = python_urns.EMBEDDED_PYTHON, b""
        del environment.dependencies[:]
    result = FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([]))
    result.wait_until_finish()
    found = result.metrics().query()
    entries: list[tuple] = [
        ("counter", m.key.metric.namespace, m.key.metric.name, m.result) for m in found["counters"]
    ]
    for metric in found["distributions"]:
        values = {key: getattr(metric.result, key) for key in ("count", "sum", "min", "max")}
        name = metric.key.metric
        entries.append(("distribution", name.namespace, name.name, values))
    return entries


def main(graph: str, metrics: str) -> None:
    Path(metrics).write_text(json.dumps(run_graph(Path(graph).read_bytes())))


if __name__ == "__main__":
    main(*sys.argv[1:])
