"""Google Cloud Storage: one client for the process, ranged reads, and writes in one request each.

Every write names the generation that it replaces (0: there must be none), so that an object of
somebody else's is never overwritten, and a write can be repeated without harm; only above 8 MiB the
client takes two requests for one. What is worth trying again is tried again, with growing delays,
for `RETRY_SECONDS`. See the documentation of request preconditions and of retries at
https://cloud.google.com/storage/docs.

Names are `gs://bucket/object`. `STORAGE_EMULATOR_HOST` names another server than Google's.
"""

import base64
import mimetypes
import os
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedReader, BytesIO, RawIOBase
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import google_crc32c

from transforms.storage import metering
from transforms.storage.files import (
    AccessError,
    ChangedError,
    FoundFile,
    MissingError,
    Part,
    StorageError,
    changed,
    cut_short,
)

PREFIX = "gs://"
EMULATOR = "STORAGE_EMULATOR_HOST"

RETRY_SECONDS = 120.0
TIMEOUTS = (10.0, 60.0)
"""Seconds to connect, and between two packets of an answer."""

CONNECTIONS = 64
"""Kept open at most; further ones are made and closed again."""

BUFFER_BYTES = 1 << 20
"""Read at a time from a file that is sought in."""

ABSENT = 0
"""The generation of an object that is not there."""

_FIELDS = "items(name,size,generation,timeCreated),nextPageToken"
_WILDCARD = re.compile(r"[*?\[{]")


def is_folder(path: str) -> bool:
    """See `storage.is_folder`. A bucket is a folder even when it is empty."""
    bucket, prefix = _folder(path)
    with _explained(path):
        listed = _client().list_blobs(bucket, prefix=prefix, max_results=1, **_trying())
        return any(True for _ in listed) or not prefix


def parts(folder: str) -> Iterator[Part]:
    """See `storage.parts`: what lies right in the folder, and each folder below it.

    A folder that holds but one other is no place to share the work at: that one's are taken.
    """
    yield Part(folder, deep=False)
    below = folders(folder)
    first, second = next(below, None), next(below, None)
    if first and not second:
        yield from parts(first)
    elif first and second:
        yield from map(Part, (first, second))
        yield from map(Part, below)


def folders(folder: str) -> Iterator[str]:
    """See `storage.folders`."""
    bucket, prefix = _folder(folder)
    with _explained(folder):
        level = _client().list_blobs(
            bucket, prefix=prefix, delimiter="/", fields="prefixes,nextPageToken", **_trying()
        )
        known: set[str] = set()
        for _ in level.pages:
            for name in sorted(level.prefixes - known):
                yield f"{PREFIX}{bucket}/{name.removesuffix('/')}"
            known |= level.prefixes


def walk(part: Part, excluded: str, follow_links: bool) -> Iterator[FoundFile]:
    """See `storage.walk`. The names come page by page and are never held all at once."""
    if excluded and f"{part.folder}/".startswith(f"{excluded}/"):
        return
    bucket, prefix = _folder(part.folder)
    for file in _listed(bucket, prefix=prefix, delimiter=None if part.deep else "/"):
        if not (excluded and file.path.startswith(f"{excluded}/")):
            yield file


def matching(pattern: str) -> Iterator[FoundFile]:
    """See `storage.matching`; the server does it, by its own rules for `matchGlob`."""
    bucket, name = _split(pattern)
    wildcard = _WILDCARD.search(name)
    literal = name[: wildcard.start()] if wildcard else name
    yield from _listed(bucket, prefix=literal, match_glob=name)


def find(path: str) -> FoundFile:
    """See `storage.find`; raises StorageError where the server gives no answer."""
    blob = _look(path)
    return FoundFile(path, -1, 0) if blob is None else _found(path, blob)


def read(path: str, offset: int, length: int | None, version: str) -> bytes:
    """See `storage.read`. It is one request."""
    from google.api_core.exceptions import PreconditionFailed, RequestRangeNotSatisfiable

    if length == 0:
        return b""
    span = {} if length is None else {"start": offset, "end": offset + length - 1}
    # What was not there when it was looked for has the size -1 in place of a generation.
    generation = max(ABSENT, int(version.rpartition("-")[0])) if version else None
    with _explained("cannot be read"):
        try:
            data = _blob(path).download_as_bytes(
                **span, if_generation_match=generation, **_trying()
            )
        except PreconditionFailed as error:
            raise changed(version, "another") from error
        except RequestRangeNotSatisfiable as error:
            raise cut_short(offset, length or 0, 0) from error
    metering.count(metering.BYTES_READ, len(data))
    if length is not None and len(data) < length:
        raise cut_short(offset, length, len(data))
    return data


def open_file(path: str) -> BinaryIO:
    """See `storage.open_file`. All is read from the generation that is there now."""
    found = find(path)
    if found.size < 0:
        raise MissingError("cannot be read: no such object")
    return BufferedReader(_ObjectFile(found), BUFFER_BYTES)


def write(root: str, name: str, data: bytes) -> None:
    """See `storage.write`.

    A new object takes one request. Where there is one already, it may be this very write, made
    before; else it is replaced, in the state in which it was found.
    """
    _write(f"{root}/{name}", BytesIO(data))


@contextmanager
def writing(root: str, name: str) -> Iterator[BinaryIO]:
    """See `storage.writing`. What is written is on the local disk until it is whole."""
    with TemporaryFile() as file:
        yield file
        _write(f"{root}/{name}", file)


def put(path: str, data: bytes, generation: int) -> int:
    """Write an object in place of one generation of it, `ABSENT` for none; return the new one.

    Raises:
        ChangedError: another one is there; it stays as it is.
        StorageError: it cannot be written.
    """
    return _replace(path, BytesIO(data), generation)


def get(path: str) -> tuple[bytes, int]:
    """The bytes and the generation of an object; without it b"" and `ABSENT`.

    Raises:
        StorageError: it cannot be read.
    """
    while (found := find(path)).size >= 0:
        with suppress(ChangedError, MissingError):
            return read(path, 0, None, found.version), found.generation
    return b"", ABSENT


def remove(path: str) -> None:
    """See `storage.remove`. What is not there any more is as good as removed."""
    if is_folder(path):
        for file in walk(Part(path), excluded="", follow_links=False):
            _delete(file.path)
    else:
        _delete(path)


def move(source: str, target: str) -> None:
    """See `storage.move`; there is a moment in which both are there."""
    bucket, name = _split(target)
    write(f"{PREFIX}{bucket}", name, read(source, 0, None, ""))
    _delete(source)


class _ObjectFile(RawIOBase):
    """One generation of an object as an unbuffered file: a request for each read."""

    def __init__(self, found: FoundFile):
        self._found = found
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        start = {SEEK_SET: 0, SEEK_CUR: self._position, SEEK_END: self._found.size}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        length = max(0, min(len(buffer), self._found.size - self._position))
        found = self._found
        buffer[:length] = read(found.path, self._position, length, found.version)
        self._position += length
        return length


def _split(path: str) -> tuple[str, str]:
    bucket, _, name = path.removeprefix(PREFIX).partition("/")
    if not bucket:
        raise AccessError(f"{path}: names no bucket; expected {PREFIX}BUCKET/NAME")
    return bucket, name


def _folder(path: str) -> tuple[str, str]:
    """The bucket, and what the names of all objects in the folder begin with."""
    bucket, name = _split(path)
    return bucket, f"{name}/" if path != f"{PREFIX}{bucket}" else ""


def _listed(bucket: str, **options: Any) -> Iterator[FoundFile]:
    where = f"{PREFIX}{bucket}"
    with _explained(where):
        for blob in _client().list_blobs(bucket, fields=_FIELDS, **options, **_trying()):
            if not blob.name.endswith("/"):  # Made by web consoles to show an empty folder.
                yield _found(f"{where}/{blob.name}", blob)


def _found(path: str, blob: Any) -> FoundFile:
    created_ns = round(blob.time_created.timestamp() * 1e6) * 1000
    return FoundFile(path, blob.size, created_ns, blob.generation)


def _look(path: str) -> Any:
    """The object's metadata as a `Blob`, or None where there is no such object."""
    bucket, name = _split(path)
    with _explained(path):
        return _client().bucket(bucket).get_blob(name, **_trying())


def _blob(path: str) -> Any:
    bucket, name = _split(path)
    return _client().bucket(bucket).blob(name)


def _write(path: str, file: BinaryIO) -> None:
    written, there = _upload(path, file, ABSENT)
    if not written:
        _replace(path, file, there)


def _replace(path: str, file: BinaryIO, generation: int) -> int:
    written, there = _upload(path, file, generation)
    if not written:
        raise ChangedError(f"{path}: somebody else has written it meanwhile; theirs stays")
    return there


def _upload(path: str, file: BinaryIO, generation: int) -> tuple[bool, int]:
    """Write an object in place of one generation of it, if that is still there.

    Returns whether the bytes are there now, and in which generation; else the one that is. They may
    be there although the server refuses them: by an earlier try whose answer was lost.
    """
    from google.api_core.exceptions import PreconditionFailed

    blob = _blob(path)
    size = file.seek(0, SEEK_END)
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    with _explained(f"{path}: cannot be written"):
        try:
            blob.upload_from_file(
                file, rewind=True, size=size, content_type=kind,
                if_generation_match=generation, **_trying(),
            )  # fmt: skip
        except PreconditionFailed:
            blob = _look(path)
            if blob is None:
                return False, ABSENT
            if (blob.size, blob.crc32c) != (size, _crc32c(file)):
                return False, int(blob.generation)
    metering.count(metering.BYTES_WRITTEN, size)
    return True, int(blob.generation)


def _delete(path: str) -> None:
    from google.api_core.exceptions import NotFound

    with _explained(f"{path}: cannot be removed"):
        try:
            _blob(path).delete(**_trying())
        except NotFound:
            return


def _crc32c(file: BinaryIO) -> str:
    """The checksum as an object's metadata has it."""
    file.seek(0)
    checksum = google_crc32c.Checksum()
    deque(checksum.consume(file, BUFFER_BYTES), maxlen=0)
    return base64.b64encode(checksum.digest()).decode()


def _trying() -> dict[str, Any]:
    from google.cloud.storage.retry import DEFAULT_RETRY

    retry = DEFAULT_RETRY.with_delay(initial=0.2, maximum=10.0, multiplier=2.0)
    return {"retry": retry.with_timeout(RETRY_SECONDS), "timeout": TIMEOUTS}


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the client's errors into a StorageError that begins with `what`."""
    import requests
    from google.api_core import exceptions as api
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption

    try:
        yield
    except api.NotFound as error:
        if "bucket does not exist" in error.message:
            raise AccessError(f"{what}: no such bucket") from error
        raise MissingError(f"{what}: no such object") from error
    except (api.Forbidden, api.Unauthorized) as error:
        raise AccessError(
            f"{what}: no permission ({_line(error)}); give this account a role for it, "
            "such as Storage Object User on the bucket"
        ) from error
    except GoogleAuthError as error:
        raise AccessError(f"{what}: not signed in ({_line(error)}); {_SIGN_IN}") from error
    except api.RetryError as error:
        raise StorageError(
            f"{what}: no success in {RETRY_SECONDS:g} s of tries ({_line(error.cause or error)})"
        ) from error
    except (api.GoogleAPIError, requests.RequestException, DataCorruption, OSError) as error:
        raise StorageError(f"{what}: {_line(error)}") from error


_SIGN_IN = (
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to the "
    "key file of a service account"
)


def _line(error: Any) -> str:
    """What is wrong in one line: what the server says of it, or the error itself."""
    response = getattr(error, "response", None)
    if response is None or response.ok:
        return next(iter(str(error).strip().splitlines()), type(error).__name__)
    try:
        said = response.json()["error"]["message"]
    except (ValueError, LookupError, TypeError):
        said = response.reason
    return f"{response.status_code} {said}"


_making = threading.Lock()


def _client() -> Any:
    """The client of this process, made when it is first asked for.

    Raises:
        AccessError: there are no credentials.
    """
    with _making:
        return _new_client()


@cache
def _new_client() -> Any:
    # Where no metadata server answers, there is none: a laptop must not wait for it.
    os.environ.setdefault("GCE_METADATA_TIMEOUT", "1")
    os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    import google.auth
    from google.auth.credentials import AnonymousCredentials, Credentials
    from google.cloud.storage import Client

    from transforms.storage.sessions import MeteredSession

    credentials: Credentials = AnonymousCredentials()
    project = None
    if not os.environ.get(EMULATOR):
        with _explained("Google Cloud Storage"):
            credentials, project = google.auth.default(scopes=Client.SCOPE)
    session = MeteredSession(credentials, CONNECTIONS)
    return Client(project or "<none>", credentials, _http=session)


os.register_at_fork(after_in_child=_new_client.cache_clear)
