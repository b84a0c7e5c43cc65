"""A server that speaks the part of Dataflow's REST API that a launcher needs.

Jobs are created, looked at, listed and cancelled; their metrics and messages are read. Routes and
fields are those of https://cloud.google.com/dataflow/docs/reference/rest (v1b3). What a job does
is up to the test: a function that is called, in a thread of its own, once the job is created.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.cloud.dataflow import JobState

JOBS = re.compile(
    r"/v1b3/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/jobs"
    r"(/(?P<id>[^/]+)(/(?P<part>messages|metrics))?)?"
)
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

    def _measure(self, namespace: str, name: str, context: dict[str, str], **value: Any) -> None:
        structured = {
            "origin": "user",
            "name": name,
            "context": {"namespace": namespace, "step": "s1", **context},
        }
        self.metrics.append({"name": structured, "kind": "Sum", **value})


Work = Callable[[ServedJob], None]


class DataflowServer:
    """The service. As a context it listens on a free port of the loopback.

    Args:
        work: what a job does after it was created.

    Attributes:
        jobs: the jobs by their ids, oldest first.
        refusals: by their methods (`GET`, ...), requests that are not served: status, name and
            text of the answer.
        url: for `--dataflow_endpoint`.
    """

    def __init__(self, work: Work):
        self._work = work
        self.jobs: dict[str, ServedJob] = {}
        self.refusals: dict[str, tuple[HTTPStatus, str, str]] = {}

    def __enter__(self) -> "DataflowServer":
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = ThreadingHTTPServer(("localhost", 0), handler)
        self.url = f"http://localhost:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

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


class _Handler(BaseHTTPRequestHandler):
    service: DataflowServer

    def do_GET(self) -> None:
        if not (route := self._route()):
            return
        if route["id"] is None:
            name = parse_qs(urlsplit(self.path).query)["name"][0]
            self._answer({"jobs": [_public(job) for job in self.service.active(name)]})
            return
        job = self.service.jobs[route["id"]]
        if route["part"] == "metrics":
            self._answer({"metrics": job.metrics})
        elif route["part"] == "messages":
            self._answer({"jobMessages": [_message(text) for text in job.errors]})
        else:
            self._answer(_public(job))

    def do_POST(self) -> None:
        if not (route := self._route()):
            return
        description = self._body()
        for other in self.service.active(description["name"]):
            text = f"There is already an active job named {other.name}. Id: {other.id}"
            self._refuse(HTTPStatus.CONFLICT, "ALREADY_EXISTS", text)
            return
        self._answer(_public(self.service.create(route["project"], route["region"], description)))

    def do_PUT(self) -> None:
        if not (route := self._route()):
            return
        job = self.service.jobs[route["id"]]
        job.state = JobState(self._body()["requestedState"]).name
        self._answer(_public(job))

    def log_message(self, *_: object) -> None:
        """Requests are not logged."""

    def _route(self) -> dict[str, str] | None:
        """What the path names; None after a refusal."""
        found = JOBS.fullmatch(urlsplit(self.path).path)
        if self.command in self.service.refusals:
            self._refuse(*self.service.refusals[self.command])
        elif not found:
            self._refuse(HTTPStatus.NOT_FOUND, "NOT_FOUND", f"no such route: {self.path}")
        else:
            return found.groupdict()
        return None

    def _body(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _refuse(self, status: HTTPStatus, name: str, message: str) -> None:
        self._answer({"error": {"code": status, "status": name, "message": message}}, status)

    def _answer(self, content: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


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
