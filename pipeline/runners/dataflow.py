"""Jobs on the Dataflow service: one at a time for an output folder, watched until they end."""

import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dataflow.internal.apiclient import (
    DataflowApplicationClient,
    DataflowJobAlreadyExistsError,
)
from apache_beam.runners.runner import PipelineResult, PipelineState
from google.api_core.exceptions import ClientError, Conflict, GoogleAPICallError
from google.cloud import dataflow as api
from requests import RequestException

from pipeline.errors import ConfigurationError, JobError
from pipeline.runners import dataflow_options
from pipeline.runners.dataflow_options import SETUP_FILE, console_url, stages_source
from pipeline.runners.options import pipeline_options
from pipeline.runners.runner import Build, Metrics, Runner, Watch, start
from transforms import storage
from transforms.output.locking import LockedError

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
"""Between two looks at a job."""

_UNREACHABLE = (GoogleAPICallError, RequestException)


class DataflowRunner(Runner):
    """The Dataflow service.

    Args:
        options: as `dataflow_options.complete` returned them.
        gpu: GPUs of a worker, `TYPE[:COUNT]`, or None.
    """

    has_other_machines = True

    def __init__(self, options: Mapping[str, Any], gpu: str | None = None):
        super().__init__(options)
        self.hints = dataflow_options.hints(options, gpu)
        self.notes = dataflow_options.notes(options, gpu)
        self.is_unattended = dataflow_options.is_unattended(options)

    def check(self, paths: Sequence[str]) -> None:
        """See `Runner.check`. An active job of the same name holds the lock.

        The service itself refuses a second job of the same name. Asking first keeps this run from
        touching the output folder of the active job. The check of the bucket is here because Beam
        retries writes to a missing bucket for minutes.
        """
        dataflow_options.check(self.options, paths)
        for name in ("temp_location", "staging_location"):
            _check_bucket(f"--{name}", self.options.get(name) or "")
        if self.is_unattended:
            return
        with _refusals(self.options):
            for job in _active(pipeline_options(self.options), self.options["job_name"]):
                raise LockedError(f"{self._named(job.id)} is active as {self.options['job_name']}")

    def run(self, build: Build, watch: Watch | None = None) -> Metrics:
        """See `Runner.run`."""
        if self.is_unattended:
            raise ConfigurationError("--template_location or --dry_run: no job to wait for")
        result = self._submit(build)
        job = self._named(result.job_id())
        try:
            state = _watch(result, job, watch)
            if state != PipelineState.DONE:
                reason = _last_error(pipeline_options(self.options), result.job_id())
                raise JobError(f"{job} ended as {state}: {reason}")
            return Metrics.of(result)
        except KeyboardInterrupt:
            _cancel(result, job)
            raise
        except _UNREACHABLE as error:
            raise JobError(f"{job} continues, but its state is unknown: {error}") from error

    def submit(self, build: Build) -> list[str]:
        """Submit a job, or only describe it, and do not wait for it; lines that say where it is.

        Raises:
            LockedError: a job of this name is active.
            ConfigurationError: the service does not take the job.
            JobError: the service cannot be reached.
        """
        result = self._submit(build)
        if self.is_unattended:
            return ["No job was submitted", *filter(None, [self.options.get("template_location")])]
        return [result.job_id(), console_url(self.options, result.job_id())]

    def _submit(self, build: Build) -> PipelineResult:
        with _staged(self.options) as staged, _refusals(self.options):
            return start(build, pipeline_options(staged))

    def _named(self, job_id: str) -> str:
        return f"Dataflow job {job_id} ({console_url(self.options, job_id)})"


def _watch(result: PipelineResult, job: str, watch: Watch | None) -> str:
    """The state in which a job ends; its metrics are passed on meanwhile."""
    shown = None
    while True:
        state = result.state
        if state != shown:
            logger.info("%s: %s", job, state)
            shown = state
        if watch and state in (PipelineState.RUNNING, PipelineState.DONE):
            watch(Metrics.of(result))
        if PipelineState.is_terminal(state):
            return state
        time.sleep(POLL_SECONDS)


def _cancel(result: PipelineResult, job: str) -> None:
    try:
        result.cancel()
    except _UNREACHABLE as error:
        logger.error("%s cannot be cancelled from here and continues: %s", job, error)
    else:
        logger.info("%s is being cancelled", job)


def _check_bucket(option: str, path: str) -> None:
    if not storage.store_of(path).shared:
        return
    try:
        storage.is_folder("/".join(path.split("/")[:3]))
    except storage.StorageError as error:
        raise ConfigurationError(f"{option}: {error}") from error


@contextmanager
def _staged(options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """As a context, options with which the workers install this citymask, if they are to.

    Beam would build the source distribution in the folder of the source.
    """
    if not stages_source(options):
        yield dict(options)
        return
    with tempfile.TemporaryDirectory(prefix="citymask-source-") as folder:
        build = [sys.executable, SETUP_FILE.name, "--quiet", "egg_info", "--egg-base", folder]
        build += ["sdist", "--dist-dir", folder]
        built = subprocess.run(build, cwd=SETUP_FILE.parent, capture_output=True, text=True)
        if built.returncode:
            reason = (built.stderr.strip() or f"exit code {built.returncode}").splitlines()[-1]
            raise ConfigurationError(f"{SETUP_FILE}: cannot be packed for the workers: {reason}")
        (archive,) = Path(folder).glob("*.tar.gz")
        others = options.get("extra_packages") or []
        yield {**options, "extra_packages": [*others, str(archive)]}


@contextmanager
def _refusals(options: Mapping[str, Any]) -> Iterator[None]:
    """Turn what goes wrong while a job is submitted into what a user can act on."""
    try:
        yield
    except (Conflict, DataflowJobAlreadyExistsError) as error:
        raise LockedError(f"a job is active as {options['job_name']}: {error}") from error
    except ClientError as error:
        raise ConfigurationError(f"Dataflow refuses the job: {error}") from error
    except _UNREACHABLE as error:
        raise JobError(f"no job was submitted, Dataflow cannot be reached: {error}") from error


def _active(options: PipelineOptions, name: str) -> Iterator[api.Job]:
    """Active jobs of a name.

    Beam's public search by name (`job_id_for_name`) does not end where there is none, and its
    private client is the one that has the user's endpoint and credentials.
    """
    client = DataflowApplicationClient(options)
    return iter(
        client._jobs_client.list_jobs(
            api.ListJobsRequest(
                project_id=client.google_cloud_options.project,
                location=client.google_cloud_options.region,
                filter=api.ListJobsRequest.Filter.ACTIVE,
                name=name,
            )
        )
    )


def _last_error(options: PipelineOptions, job_id: str) -> str:
    """What a job said of its end: of a stack trace the last line, which names the error."""
    messages, _ = DataflowApplicationClient(options).list_messages(
        job_id, minimum_importance="JOB_MESSAGE_ERROR"
    )
    texts = [message.message_text for message in messages]
    traces = [text for text in texts if "Traceback" in text]
    return (traces or texts or ["no reason is given"])[-1].strip().splitlines()[-1]
