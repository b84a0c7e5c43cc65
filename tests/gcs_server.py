"""A server on the loopback that speaks as much of the Cloud Storage JSON API as citymask uses.

Unlike the emulators on PyPI it gives generations and honours preconditions, pages its lists and can
refuse a bucket. See https://cloud.google.com/storage/docs/json_api.
"""

import base64
import itertools
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from urllib.parse import unquote

import google_crc32c
from gcp_storage_emulator.gcs_glob import gcs_glob_match
from werkzeug import Request, Response

from tests.http_server import HttpServer, target

ROUTE = re.compile(
    r"(?P<kind>/upload|/download)?/storage/v1/b/(?P<bucket>[^/]+)(/o(/(?P<name>.*))?)?"
)


@dataclass(frozen=True)
class StoredObject:
    """One generation of an object."""

    data: bytes
    generation: int
    content_type: str

    @property
    def checksum(self) -> str:
        return base64.b64encode(google_crc32c.Checksum(self.data).digest()).decode()

    def resource(self, bucket: str, name: str) -> dict[str, str]:
        """The object as the API describes it."""
        created = datetime.fromtimestamp(self.generation / 1e6, timezone.utc)
        return {
            "kind": "storage#object",
            "bucket": bucket,
            "name": name,
            "size": str(len(self.data)),
            "generation": str(self.generation),
            "metageneration": "1",
            "contentType": self.content_type,
            "timeCreated": created.isoformat().replace("+00:00", "Z"),
            "crc32c": self.checksum,
        }


@dataclass
class Upload:
    """A resumable upload that was begun, and what became of it."""

    name: str
    content_type: str
    query: dict[str, str]
    resource: dict[str, str] = field(default_factory=dict)


@dataclass
class GcsServer(HttpServer):
    """The server; its `url` is what `STORAGE_EMULATOR_HOST` has to be.

    Attributes:
        page_size: most results in a page of a list.
        buckets: objects by bucket and name.
        forbidden: buckets that nobody may use.
        requests: how many requests there were of each kind.
        asked: the same by kind and name of the object, or prefix of a list.
        before: called with method ("UPLOAD" for all that write) and object name before a request is
            answered.
    """

    page_size: int = 1000
    buckets: dict[str, dict[str, StoredObject]] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    requests: Counter[str] = field(default_factory=Counter)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    before: Callable[[str, str], None] = lambda method, name: None

    def __post_init__(self):
        self.lock = threading.RLock()
        self.uploads: dict[str, Upload] = {}
        self._generations = itertools.count(time.time_ns() // 1000)

    def answer(self, request: Request) -> Response:
        try:
            return _answer(self, request)
        except RefusedError as error:
            return _json({"error": {"code": error.status, "message": str(error)}}, error.status)

    def put(self, bucket: str, name: str, data: bytes, content_type: str = "") -> StoredObject:
        """Store an object, as somebody else may do it meanwhile."""
        with self.lock:
            stored = StoredObject(data, next(self._generations), content_type)
            self.buckets.setdefault(bucket, {})[name] = stored
        return stored

    def generation(self, bucket: str, name: str) -> int:
        """The generation of an object that is there now; 0 where there is none."""
        there = self.buckets[bucket].get(name)
        return there.generation if there else 0

    def files(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """The bytes of all objects below a prefix, by name."""
        with self.lock:
            objects = sorted(self.buckets[bucket].items())
        return {name: stored.data for name, stored in objects if name.startswith(prefix)}


class RefusedError(Exception):
    """What makes the server answer with an error; `before` may raise it as well."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def _answer(gcs: GcsServer, request: Request) -> Response:
    """Answer a request of one of the routes.

    Raises:
        RefusedError: it cannot be done.
    """
    path = target(request).partition("?")[0]
    route = ROUTE.fullmatch(path)
    if route is None:
        raise RefusedError(404, f"no such route: {path}")
    query = request.args.to_dict()
    bucket, name = unquote(route["bucket"]), unquote(route["name"] or "")
    data = request.get_data()
    upload = None
    if route["kind"] == "/upload":
        upload, data = _incoming(gcs, request, query, data)
        name = upload.name
    with gcs.lock:
        kind = _kind(request.method, route, query)
        gcs.requests[kind] += 1
        gcs.asked[kind, name or query.get("prefix", "")] += 1
    gcs.before("UPLOAD" if upload else request.method, name)
    with gcs.lock:
        if bucket in gcs.forbidden:
            raise RefusedError(403, f"no access to the bucket {bucket}")
        if bucket not in gcs.buckets:
            raise RefusedError(404, "The specified bucket does not exist.")
        if upload:
            return _store(gcs, bucket, upload, request, query, data)
        if not name:
            return _json(_list(gcs, bucket, query))
        return _serve(gcs.buckets[bucket], bucket, name, request, query)


def _json(document: object, status: int = 200) -> Response:
    return Response(json.dumps(document), status, content_type="application/json")


def _serve(
    objects: dict[str, StoredObject],
    bucket: str,
    name: str,
    request: Request,
    query: dict[str, str],
) -> Response:
    if name not in objects:
        raise RefusedError(404, f"No such object: {bucket}/{name}")
    stored = objects[name]
    _check(query, stored.generation)
    if request.method == "DELETE":
        del objects[name]
        return Response(status=204)
    if query.get("alt") == "media":
        return _download(stored, request.headers.get("Range", ""))
    return _json(stored.resource(bucket, name))


def _download(stored: StoredObject, asked: str) -> Response:
    """An object, or the range of it that was asked for."""
    headers = {
        "Content-Type": stored.content_type,
        "X-Goog-Generation": str(stored.generation),
        "X-Goog-Hash": f"crc32c={stored.checksum}",
        "X-Goog-Stored-Content-Length": str(len(stored.data)),
    }
    limits = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
    if not limits:
        return Response(stored.data, 200, headers)
    start, end = int(limits[1]), int(limits[2] or len(stored.data) - 1)
    if start >= len(stored.data):
        raise RefusedError(416, "The requested range cannot be satisfied.")
    data = stored.data[start : end + 1]
    headers["Content-Range"] = f"bytes {start}-{start + len(data) - 1}/{len(stored.data)}"
    return Response(data, 206, headers)


def _incoming(
    gcs: GcsServer, request: Request, query: dict[str, str], body: bytes
) -> tuple[Upload, bytes]:
    """What is uploaded, and its bytes in this request."""
    if "upload_id" in query:
        return gcs.uploads[query["upload_id"]], body
    if query["uploadType"] == "resumable":
        content_type = request.headers["X-Upload-Content-Type"]
        return Upload(json.loads(body)["name"], content_type, query), b""
    boundary = request.mimetype_params["boundary"].encode()
    _, about, content, _ = body.split(b"--" + boundary)
    head, _, data = content.partition(b"\r\n\r\n")
    content_type = re.search(rb"content-type: *([^\r\n]+)", head, re.IGNORECASE)[1].decode()
    name = json.loads(about.partition(b"\r\n\r\n")[2])["name"]
    return Upload(name, content_type, query), data.removesuffix(b"\r\n")


def _store(
    gcs: GcsServer,
    bucket: str,
    upload: Upload,
    request: Request,
    query: dict[str, str],
    data: bytes,
) -> Response:
    if not upload.resource:
        _check(upload.query, gcs.generation(bucket, upload.name))
    if query["uploadType"] == "resumable" and "upload_id" not in query:
        gcs.uploads[upload_id := str(len(gcs.uploads))] = upload
        location = f"http://{request.host}{target(request)}&upload_id={upload_id}"
        return Response(b"{}", 200, {"Location": location})
    if not upload.resource:
        stored = gcs.put(bucket, upload.name, data, upload.content_type)
        upload.resource = stored.resource(bucket, upload.name)
    return _json(upload.resource)


def _check(query: dict[str, str], generation: int) -> None:
    wanted = query.get("ifGenerationMatch")
    if wanted is not None and int(wanted) != generation:
        raise RefusedError(412, "At least one of the pre-conditions you specified did not hold.")


def _list(gcs: GcsServer, bucket: str, query: dict[str, str]) -> dict[str, object]:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
    pattern = query.get("matchGlob", "**")
    entries: dict[str, dict | None] = {}
    for name, stored in sorted(gcs.buckets[bucket].items()):
        if not name.startswith(prefix) or not gcs_glob_match(pattern, name):
            continue
        cut = name.find(delimiter, len(prefix)) if delimiter else -1
        if cut >= 0:
            entries[name[: cut + 1]] = None
        else:
            entries[name] = stored.resource(bucket, name)
    start = query.get("pageToken", "")
    size = min(gcs.page_size, int(query.get("maxResults", gcs.page_size)))
    names = [name for name in entries if name > start]
    page = names[:size]
    document = {
        "kind": "storage#objects",
        "items": [entries[name] for name in page if entries[name]],
        "prefixes": [name for name in page if not entries[name]],
    }
    if len(names) > size:
        document["nextPageToken"] = page[-1]
    return document


def _kind(method: str, route: re.Match, query: dict[str, str]) -> str:
    if route["kind"] == "/upload":
        return "write"
    if method == "DELETE":
        return "remove"
    if not route["name"]:
        return "list"
    return "read" if query.get("alt") == "media" else "look"
