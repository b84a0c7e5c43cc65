"""A server that speaks the part of Dataflow's REST API that a launcher needs.

Jobs are created, looked at, listed and cancelled; their metrics and messages are read. Routes and
fields are those of https://cloud.google.com/dataflow/docs/reference/rest (v1b3). What a job does
is up to the test: a function that is called, in a thread of its own, once the job is created.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from google.cloud.dataflow import JobState
from werkzeug import Request, Response
from werkzeug.exceptions import NotFound
from werkzeug.routing import Map, Rule

from tests.http_server import HttpServer

TERMINAL = ("JOB_STATE_DONE", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")


@dataclass
class ServedJob:
    """A job as the service has it.

    Attributes:
        id: its id.
        description: the body of the request that created it.
        project: of the request.
        region: of the request.
        state: `JOB_STATE_...`.
        metrics: its metric updates.
        errors: texts of its error messages.
    """

    id: str
    description: dict[str, Any]
    project: str
    region: str
    state: str = "JOB_STATE_PENDING"
    metrics: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.description["name"]

    @property
    def active(self) -> bool:
        return self.state not in TERMINAL

    def count(self, namespace: str, name: str, value: int) -> None:
        """Add a counter, as the service tells of it: attempted, and committed."""
        for context in ({"tentative": "true"}, {}):
            self._measure(namespace, name, context, scalar=value)

    def distribute(self, namespace: str, name: str, **values: int) -> None:
        """Add a distribution: `count`, `sum`, `min` and `max`."""
        for context in ({"tentative": "true"}, {}):
            self._measure(namespace, name, context, distribution=values)

    def report(self, entries: Iterable[Sequence]) -> None:
        """Add metrics as `dataflow_worker` gives them."""
        for kind, namespace, name, value in entries:
            if kind == "counter":
                self.count(namespace, name, value)
            else:
                self.distribute(namespace, name, **value)

    def _measure(self, namespace: str, name: str, context: dict[str, str], **value: Any) -> None:
        structured = {
            "origin": "user",
            "name": name,
            "context": {"namespace": namespace, "step": "s1", **context},
        }
        self.metrics.append({"name": structured, "kind": "Sum", **value})


Work = Callable[[ServedJob], None]


def runs(job: ServedJob) -> None:
    """Work of a job that runs until somebody ends it."""
    job.state = "JOB_STATE_RUNNING"


def done(*counters: tuple[str, str, int]) -> Work:
    """Work of a job that ends well, with counters: namespace, name and value."""

    def work(job: ServedJob) -> None:
        for counter in counters:
            job.count(*counter)
        job.state = "JOB_STATE_DONE"

    return work


def failed(*errors: str) -> Work:
    """Work of a job that fails with error messages."""

    def work(job: ServedJob) -> None:
        job.errors += errors
        job.state = "JOB_STATE_FAILED"

    return work


class DataflowServer(HttpServer):
    """The service; its `url` is for `--dataflow_endpoint`.

        with DataflowServer(failed("ValueError: no")) as service:
            ...  # Run a command with --runner DataflowRunner --dataflow_endpoint=service.url.
        service.job.description  # What was submitted.

    Args:
        work: what a job does after it was created: `runs`, `done`, `failed` or a function that sets
            the job's state, metrics and errors.

    Attributes:
        jobs: the jobs by their ids, oldest first.
        refusals: by their methods (`GET`, ...), requests that are not served: status, name and
            text of the answer.
    """

    host = "localhost"  # With any other host Beam's client speaks gRPC.

    def __init__(self, work: Work):
        self._work = work
        self.jobs: dict[str, ServedJob] = {}
        self.refusals: dict[str, tuple[HTTPStatus, str, str]] = {}

    @property
    def job(self) -> ServedJob:
        """The only job."""
        (job,) = self.jobs.values()
        return job

    def active(self, name: str) -> Iterator[ServedJob]:
        """Active jobs of a name."""
        return (job for job in self.jobs.values() if job.active and job.name == name)

    def create(self, project: str, region: str, description: dict[str, Any]) -> ServedJob:
        """Take a job and let it work."""
        job_id = f"2026-11-22_job-{len(self.jobs) + 1}"
        job = self.jobs[job_id] = ServedJob(job_id, description, project, region)
        threading.Thread(target=self._work, args=(job,), daemon=True).start()
        return job

    def answer(self, request: Request) -> Response:
        if request.method in self.refusals:
            return _refuse(*self.refusals[request.method])
        try:
            route, values = ROUTES.bind_to_environ(request.environ).match()
        except NotFound:
            text = f"no such route: {request.path}"
            return _refuse(HTTPStatus.NOT_FOUND, "NOT_FOUND", text)
        return route(self, request, **values)


def _list(service: DataflowServer, request: Request, project: str, region: str) -> Response:
    jobs = service.active(request.args["name"])
    return _json({"jobs": [_public(job) for job in jobs]})


def _create(service: DataflowServer, request: Request, project: str, region: str) -> Response:
    description = request.get_json()
    for other in service.active(description["name"]):
        text = f"There is already an active job named {other.name}. Id: {other.id}"
        return _refuse(HTTPStatus.CONFLICT, "ALREADY_EXISTS", text)
    return _json(_public(service.create(project, region, description)))


def _look(service: DataflowServer, request: Request, job: str, **_: str) -> Response:
    return _json(_public(service.jobs[job]))


def _metrics(service: DataflowServer, request: Request, job: str, **_: str) -> Response:
    return _json({"metrics": service.jobs[job].metrics})


def _messages(service: DataflowServer, request: Request, job: str, **_: str) -> Response:
    return _json({"jobMessages": [_message(text) for text in service.jobs[job].errors]})


def _update(service: DataflowServer, request: Request, job: str, **_: str) -> Response:
    updated = service.jobs[job]
    updated.state = JobState(request.get_json()["requestedState"]).name
    return _json(_public(updated))


JOBS = "/v1b3/projects/<project>/locations/<region>/jobs"
ROUTES = Map(
    [
        Rule(JOBS, methods=["GET"], endpoint=_list),
        Rule(JOBS, methods=["POST"], endpoint=_create),
        Rule(f"{JOBS}/<job>", methods=["GET"], endpoint=_look),
        Rule(f"{JOBS}/<job>", methods=["PUT"], endpoint=_update),
        Rule(f"{JOBS}/<job>/metrics", methods=["GET"], endpoint=_metrics),
        Rule(f"{JOBS}/<job>/messages", methods=["GET"], endpoint=_messages),
    ]
)


def _json(document: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(json.dumps(document), status, content_type="application/json")


def _refuse(status: HTTPStatus, name: str, message: str) -> Response:
    return _json({"error": {"code": status, "status": name, "message": message}}, status)


def _public(job: ServedJob) -> dict[str, Any]:
    """What the service tells of a job."""
    return {
        "id": job.id,
        "name": job.name,
        "projectId": job.project,
        "location": job.region,
        "currentState": job.state,
        "clientRequestId": job.description.get("clientRequestId", ""),
    }


def _message(text: str) -> dict[str, str]:
    return {
        "id": "m",
        "time": "2026-11-22T21:30:00Z",
        "messageText": text,
        "messageImportance": "JOB_MESSAGE_ERROR",
    }
