"""Jobs on Beam's portable runners: a job service takes the graph, workers elsewhere do the work.

How the parts talk is described at https://beam.apache.org/documentation/runtime/environments/ and
https://beam.apache.org/documentation/runtime/sdk-harness-config/
"""

import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import (
    PipelineResult,
    PipelineRunner,
    PipelineState,
    create_runner,
)

from pipeline.errors import ConfigurationError, JobError
from pipeline.runners.options import pipeline_options
from pipeline.runners.runner import Build, Metrics, Runner, Watch, start

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30
"""How long a job service may take to answer, unless the user gives `--job_server_timeout`."""

NO_TIMEOUT = 10 * 365 * 24 * 3600
"""Seconds: to some services Beam applies its timeout of one answer to the whole job."""

POLL_SECONDS = 1.0
LAST_WORDS_MILLISECONDS = 10_000
"""How long a job that failed may take to say why."""

EMBEDDED = "embed"
"""The job endpoint that stands for a service inside this process."""

TRACEBACK = "Traceback (most recent call last):\n"


def is_portable(options: Mapping[str, Any]) -> bool:
    """Whether Beam's options name a portable runner.

    Raises:
        ConfigurationError: Beam does not know the runner.
    """
    return isinstance(_runner(options), PortableRunner)


class PortableJobRunner(Runner):
    """A job service; Flink's and Spark's runners can start their own."""

    has_other_machines = True

    def __init__(self, options: Mapping[str, Any]):
        super().__init__(options)
        self._runner = _runner(options)
        self._name = type(self._runner).__name__
        self._patience = options.get("job_server_timeout", PATIENCE_SECONDS)

    def check(self, paths: Sequence[str]) -> None:
        """See `Runner.check`: whether a job service answers."""
        endpoint = self.options.get("job_endpoint")
        if not endpoint and type(self._runner) is PortableRunner:
            raise ConfigurationError(f"{self._name}: --job_endpoint HOST:PORT missing")
        if not endpoint or endpoint == EMBEDDED:
            return
        with grpc.insecure_channel(endpoint) as channel:
            try:
                beam_job_api_pb2_grpc.JobServiceStub(channel).DescribePipelineOptions(
                    beam_job_api_pb2.DescribePipelineOptionsRequest(),
                    timeout=self._patience,
                    wait_for_ready=True,
                )
            except grpc.RpcError as error:
                raise ConfigurationError(
                    f"--job_endpoint: no job service of Beam answers at {endpoint} "
                    f"within {self._patience} s ({_details(error)})"
                ) from error

    def run(self, build: Build, watch: Watch | None = None) -> Metrics:
        """See `Runner.run`. Job services give metrics at the end only, so nothing is watched."""
        options = pipeline_options({**self.options, "job_server_timeout": NO_TIMEOUT})
        try:
            result = start(build, options)
        except grpc.RpcError as error:
            raise JobError(f"{self._name}: the job was not taken: {_details(error)}") from error
        try:
            state = _watch(result, self._patience)
            if state != PipelineState.DONE:
                result.wait_until_finish(LAST_WORDS_MILLISECONDS)  # It raises the job's last error.
                raise JobError(f"{self._name}: the job ended as {state}")
        except KeyboardInterrupt:
            result.cancel()
            logger.info("the job is being cancelled")
            raise
        except grpc.RpcError as error:
            raise JobError(
                f"{self._name}: the job service is gone, and the state of the job is unknown: "
                f"{_details(error)}"
            ) from error
        except RuntimeError as error:
            raise JobError(f"{self._name}: {last_error(str(error))}") from error
        return Metrics.of(result)


def last_error(text: str) -> str:
    """What a text says went wrong: of stack traces the error that the last one ends with."""
    _, _, trace = text.rpartition(TRACEBACK)
    frames = re.match(r"(?:[ \t].*\n|\n)*", trace)
    error = trace[frames.end() :] if frames and TRACEBACK in text else text
    if details := re.search(r'details = "(.*)"', error):  # An RpcError has many lines.
        return details[1]
    of_python, _, _ = error.partition("\n\tat ")  # A runner in Java adds its own stack.
    return " ".join(of_python.split(" [while running")[0].split())


def _watch(result: PipelineResult, patience: float) -> str:
    """The state in which a job ends.

    It is asked for again and again: a stream of states may break unnoticed in a long job, see
    https://github.com/apache/beam/issues/21597
    """
    heard = time.monotonic()
    while True:
        try:
            state = result.state
        except grpc.RpcError:
            if time.monotonic() - heard > patience:
                raise
        else:
            if PipelineState.is_terminal(state):
                return state
            heard = time.monotonic()
        time.sleep(POLL_SECONDS)


def _runner(options: Mapping[str, Any]) -> PipelineRunner:
    try:
        return create_runner(options["runner"])
    except ValueError as error:
        raise ConfigurationError(f"Beam: {' '.join(str(error).split())}") from error


def _details(error: grpc.RpcError) -> str:
    return " ".join((error.details() or str(error.code())).split())
