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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c
from gcp_storage_emulator.gcs_glob import gcs_glob_match

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
    resource: bytes = b""


@dataclass
class GcsServer:
    """The server; as a context it listens on a free port.

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

    def __enter__(self) -> "GcsServer":
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.gcs = self
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        """What `STORAGE_EMULATOR_HOST` has to be."""
        return f"http://127.0.0.1:{self._http.server_port}"

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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        route = ROUTE.fullmatch(url.path)
        gcs: GcsServer = self.server.gcs
        try:
            if route is None:
                raise RefusedError(404, f"no such route: {url.path}")
            bucket, name = unquote(route["bucket"]), unquote(route["name"] or "")
            upload = None
            if route["kind"] == "/upload":
                upload, body = self._incoming(gcs, query, body)
                name = upload.name
            with gcs.lock:
                kind = _kind(self.command, route, query)
                gcs.requests[kind] += 1
                gcs.asked[kind, name or query.get("prefix", "")] += 1
            gcs.before("UPLOAD" if upload else self.command, name)
            with gcs.lock:
                if bucket in gcs.forbidden:
                    raise RefusedError(403, f"no access to the bucket {bucket}")
                if bucket not in gcs.buckets:
                    raise RefusedError(404, "The specified bucket does not exist.")
                if upload:
                    status, headers, data = self._store(gcs, bucket, upload, query, body)
                else:
                    status, headers, data = self._serve(gcs, bucket, name, query)
        except RefusedError as error:
            document = {"error": {"code": error.status, "message": str(error)}}
            status, headers, data = error.status, {}, json.dumps(document, indent=1).encode()
        self.send_response(status)
        for key, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _serve(self, gcs: GcsServer, bucket: str, name: str, query: dict[str, str]):
        objects = gcs.buckets[bucket]
        if not name:
            return 200, {}, _list(gcs, bucket, query)
        if name not in objects:
            raise RefusedError(404, f"No such object: {bucket}/{name}")
        stored = objects[name]
        _check(query, stored.generation)
        if self.command == "DELETE":
            del objects[name]
            return 204, {}, b""
        if query.get("alt") == "media":
            return self._download(stored)
        return 200, {}, json.dumps(stored.resource(bucket, name)).encode()

    def _download(self, stored: StoredObject):
        headers = {
            "Content-Type": stored.content_type,
            "X-Goog-Generation": str(stored.generation),
            "X-Goog-Hash": f"crc32c={stored.checksum}",
            "X-Goog-Stored-Content-Length": str(len(stored.data)),
        }
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return 200, headers, stored.data
        start, end = int(asked[1]), int(asked[2] or len(stored.data) - 1)
        if start >= len(stored.data):
            raise RefusedError(416, "The requested range cannot be satisfied.")
        data = stored.data[start : end + 1]
        end = start + len(data) - 1
        return 206, headers | {"Content-Range": f"bytes {start}-{end}/{len(stored.data)}"}, data

    def _incoming(self, gcs: GcsServer, query: dict[str, str], body: bytes) -> tuple[Upload, bytes]:
        """What is uploaded, and its bytes in this request."""
        if "upload_id" in query:
            return gcs.uploads[query["upload_id"]], body
        if query["uploadType"] == "resumable":
            content_type = self.headers["X-Upload-Content-Type"]
            return Upload(json.loads(body)["name"], content_type, query), b""
        boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])[1].encode()
        _, about, content, _ = body.split(b"--" + boundary)
        head, _, data = content.partition(b"\r\n\r\n")
        content_type = re.search(rb"content-type: *([^\r\n]+)", head, re.IGNORECASE)[1].decode()
        name = json.loads(about.partition(b"\r\n\r\n")[2])["name"]
        return Upload(name, content_type, query), data.removesuffix(b"\r\n")

    def _store(
        self, gcs: GcsServer, bucket: str, upload: Upload, query: dict[str, str], data: bytes
    ):
        if not upload.resource:
            _check(upload.query, gcs.generation(bucket, upload.name))
        if query["uploadType"] == "resumable" and "upload_id" not in query:
            gcs.uploads[upload_id := str(len(gcs.uploads))] = upload
            location = f"http://{self.headers['Host']}{self.path}&upload_id={upload_id}"
            return 200, {"Location": location}, b"{}"
        if not upload.resource:
            stored = gcs.put(bucket, upload.name, data, upload.content_type)
            upload.resource = json.dumps(stored.resource(bucket, upload.name)).encode()
        return 200, {}, upload.resource


def _check(query: dict[str, str], generation: int) -> None:
    wanted = query.get("ifGenerationMatch")
    if wanted is not None and int(wanted) != generation:
        raise RefusedError(412, "At least one of the pre-conditions you specified did not hold.")


def _list(gcs: GcsServer, bucket: str, query: dict[str, str]) -> bytes:
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
    return json.dumps(document).encode()


def _kind(method: str, route: re.Match, query: dict[str, str]) -> str:
    if route["kind"] == "/upload":
        return "write"
    if method == "DELETE":
        return "remove"
    if not route["name"]:
        return "list"
    return "read" if query.get("alt") == "media" else "look"
