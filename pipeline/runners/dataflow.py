"""Jobs on the Dataflow service: one at a time for an output folder, watched until they end."""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
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

from pipeline.console import logger
from pipeline.errors import ConfigurationError, JobError
from pipeline.graph import Job
from pipeline.runners import local
from pipeline.runners.dataflow_options import SETUP_FILE, console_url, is_unattended, stages_source
from pipeline.runners.options import pipeline_options
from pipeline.runs.record import count_images
from transforms import storage
from transforms.flow import progress
from transforms.output.locking import LockedError

POLL_SECONDS = 5.0
SHOWN = ("found", "skipped", "done", "failed")
"""Counts of images that the progress monitor shows."""

_UNREACHABLE = (GoogleAPICallError, RequestException)


def check(options: Mapping[str, Any]) -> None:
    """Look for the folders that a job needs, and for an active job of the same name.

    The service itself refuses a second one; asked before, it spares the first one what a run does
    to its output folder before it begins. And Beam goes on trying for minutes to write to a bucket
    that is not there.

    Raises:
        LockedError: there is an active job.
        ConfigurationError: a folder's bucket cannot be used, or the service not be asked.
    """
    for name in ("temp_location", "staging_location"):
        _check_bucket(f"--{name}", options.get(name) or "")
    if is_unattended(options):
        return
    with _refusals(options):
        for job in _active(pipeline_options(dict(options)), options["job_name"]):
            raise LockedError(f"{_named(options, job.id)} is active as {options['job_name']}")


def submit(job: Job, options: Mapping[str, Any]) -> PipelineResult:
    """Submit a job; it goes on without this process.

    Raises:
        LockedError: a job of this name is active.
        ConfigurationError: the service does not take the job.
    """
    with _staged(options) as staged, _refusals(options):
        return local.start(job, pipeline_options(staged))


def wait(result: PipelineResult, options: Mapping[str, Any]) -> None:
    """Wait until a job ends, and report its progress meanwhile; an interrupt cancels it.

    Raises:
        JobError: it failed, was cancelled, or cannot be watched any longer.
        KeyboardInterrupt: it was interrupted from here.
    """
    job = _named(options, result.job_id())
    try:
        state = _watch(result, job)
        if state != PipelineState.DONE:
            reason = _last_error(pipeline_options(dict(options)), result.job_id())
            raise JobError(f"{job} ended as {state}: {reason}")
    except KeyboardInterrupt:
        _cancel(result, job)
        raise
    except _UNREACHABLE as error:
        raise JobError(f"{job} goes on, but what it does is not known: {error}") from error


def _watch(result: PipelineResult, job: str) -> str:
    """The state in which a job ends."""
    shown, reported = None, Counter[str]()
    while True:
        state = result.state
        if state != shown:
            logger.info("%s: %s", job, state)
            shown = state
        if state in (PipelineState.RUNNING, PipelineState.DONE):
            images = count_images(result)
            progress.report(**{name: images[name] - reported[name] for name in SHOWN})
            reported.update({name: images[name] - reported[name] for name in SHOWN})
        if PipelineState.is_terminal(state):
            return state
        time.sleep(POLL_SECONDS)


def _cancel(result: PipelineResult, job: str) -> None:
    try:
        result.cancel()
    except _UNREACHABLE as error:
        logger.error("%s cannot be cancelled from here and goes on: %s", job, error)
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


def _named(options: Mapping[str, Any], job_id: str) -> str:
    return f"Dataflow job {job_id} ({console_url(options, job_id)})"


def _active(options: PipelineOptions, name: str) -> Iterator[api.Job]:
    """Active jobs of a name. Beam's own search does not end where there is none."""
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
