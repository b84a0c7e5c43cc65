"""Google Cloud Storage: one client for the process, ranged reads, and writes in one request each.

Every write names the generation that it replaces (0: there must be none), so that an object of
somebody else is never overwritten and a write can be repeated without harm; only above 8 MiB the
client takes two requests for one. See the documentation of request preconditions at
https://cloud.google.com/storage/docs.

Names are `gs://bucket/object`.
"""

import base64
import mimetypes
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedReader, BytesIO, RawIOBase
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import google_crc32c

from transforms.storage import metering
from transforms.storage.files import (
    ABSENT,
    AccessError,
    ChangedError,
    FoundFile,
    MissingError,
    Part,
    changed,
    cut_short,
)
from transforms.storage.gcs_client import DEFAULT_PATIENCE, Patience, explained, new_client
from transforms.storage.locks import LockFile, ObjectLock
from transforms.storage.store import Store

PREFIX = "gs://"

BUFFER_BYTES = 1 << 20
"""Read at a time from a file in which a reader seeks."""

_FIELDS = "items(name,size,generation,timeCreated),nextPageToken"
_WILDCARD = re.compile(r"[*?\[{]")


class GcsStore(Store):
    """Google Cloud Storage.

    Args:
        patience: how long a request may take.
    """

    output_form = "gs://BUCKET/NAME"

    def __init__(self, patience: Patience = DEFAULT_PATIENCE):
        self._patience = patience
        self._making = threading.Lock()
        self._made: Any = None
        os.register_at_fork(after_in_child=self._forget_client)

    def writable(self, path: str) -> bool:
        """See `Store.writable`. The path has to name a bucket."""
        return bool(path.removeprefix(PREFIX).partition("/")[0])

    def is_folder(self, path: str) -> bool:
        """See `storage.is_folder`. A bucket is a folder even if it is empty."""
        bucket, prefix = _folder(path)
        with self._explained(path):
            listed = self.client().list_blobs(
                bucket, prefix=prefix, max_results=1, **self._patience.options()
            )
            return any(True for _ in listed) or not prefix

    def parts(self, folder: str) -> Iterator[Part]:
        """See `storage.parts`: the files directly in the folder, and each folder in it.

        If the only content is a single folder, that one is split instead.
        """
        yield Part(folder, deep=False)
        below = self.folders(folder)
        first, second = next(below, None), next(below, None)
        if first and not second:
            yield from self.parts(first)
        elif first and second:
            yield from map(Part, (first, second))
            yield from map(Part, below)

    def folders(self, folder: str) -> Iterator[str]:
        """See `storage.folders`."""
        bucket, prefix = _folder(folder)
        with self._explained(folder):
            level = self.client().list_blobs(
                bucket, prefix=prefix, delimiter="/", fields="prefixes,nextPageToken",
                **self._patience.options(),
            )  # fmt: skip
            known: set[str] = set()
            for _ in level.pages:
                for name in sorted(level.prefixes - known):
                    yield f"{PREFIX}{bucket}/{name.removesuffix('/')}"
                known |= level.prefixes

    def walk(self, part: Part, excluded: str, follow_links: bool) -> Iterator[FoundFile]:
        """See `storage.walk`. Names come page by page and are never held all at once."""
        if excluded and f"{part.folder}/".startswith(f"{excluded}/"):
            return
        bucket, prefix = _folder(part.folder)
        for file in self._listed(bucket, prefix=prefix, delimiter=None if part.deep else "/"):
            if not (excluded and self.is_below(file.path, excluded)):
                yield file

    def matching(self, pattern: str) -> Iterator[FoundFile]:
        """See `storage.matching`; the server matches, by its own rules for `matchGlob`."""
        bucket, name = _split(pattern)
        wildcard = _WILDCARD.search(name)
        literal = name[: wildcard.start()] if wildcard else name
        yield from self._listed(bucket, prefix=literal, match_glob=name)

    def find(self, path: str) -> FoundFile:
        """See `storage.find`; raises StorageError if the server gives no answer."""
        blob = self._look(path)
        return FoundFile(path, -1, 0) if blob is None else _found(path, blob)

    def read(self, path: str, offset: int, length: int | None, version: str) -> bytes:
        """See `storage.read`. It is one request."""
        from google.api_core.exceptions import PreconditionFailed, RequestRangeNotSatisfiable

        if length == 0:
            return b""
        span = {} if length is None else {"start": offset, "end": offset + length - 1}
        # A file that was missing when it was looked for has size -1 in place of a generation.
        generation = max(ABSENT, int(version.rpartition("-")[0])) if version else None
        with self._explained("cannot be read"):
            try:
                options = self._patience.options()
                download = partial(
                    self._blob(path).download_as_bytes,
                    **span, if_generation_match=generation, **options,
                )  # fmt: skip
                # The client itself gives up on an answer that is cut short and tells of an error.
                data = options["retry"](download)()
            except PreconditionFailed as error:
                raise changed(version, "another") from error
            except RequestRangeNotSatisfiable as error:
                raise cut_short(offset, length or 0, 0) from error
        metering.count(metering.BYTES_READ, len(data))
        if length is not None and len(data) < length:
            raise cut_short(offset, length, len(data))
        return data

    def open_file(self, path: str) -> BinaryIO:
        """See `storage.open_file`. All is read from the generation that is there now."""
        found = self.find(path)
        if found.size < 0:
            raise MissingError("cannot be read: no such object")
        return BufferedReader(_ObjectFile(self, found), BUFFER_BYTES)

    def write(self, root: str, name: str, data: bytes, durable: bool = False) -> None:
        """See `storage.write`.

        A new object takes one request. An object that is there already may be of this very write,
        tried before; else it is replaced, in the state in which it was found.
        """
        self._write(f"{root}/{name}", BytesIO(data))

    def write_checked(
        self, root: str, name: str, data: bytes, durable: bool, check: Callable[[], None]
    ) -> None:
        """See `storage.write`."""
        self._write(f"{root}/{name}", BytesIO(data), check)

    @contextmanager
    def writing(self, root: str, name: str, durable: bool = False) -> Iterator[BinaryIO]:
        """See `storage.writing`. The content is collected on the local disk."""
        with TemporaryFile() as file:
            yield file
            self._write(f"{root}/{name}", file)

    def put(self, path: str, data: bytes, generation: int) -> int:
        """See `locks.Generations.put`."""
        return self._replace(path, BytesIO(data), generation)

    def remove(self, root: str, name: str) -> None:
        """See `storage.remove`. An object that is not there counts as removed."""
        path = f"{root}/{name}"
        if self.is_folder(path):
            for file in self.walk(Part(path), excluded="", follow_links=False):
                self._delete(file.path)
        else:
            self._delete(path)

    def move(self, root: str, name: str, target: str) -> None:
        """See `storage.move`; for a moment both are there."""
        source = f"{root}/{name}"
        self.write(root, target, self.read(source, 0, None, ""))
        self._delete(source)

    def lock_file(self, root: str, name: str) -> LockFile:
        """See `storage.lock_file`."""
        return ObjectLock(self, root, name)

    def client(self) -> Any:
        """The client of this process, made when it is first needed.

        Raises:
            AccessError: there are no credentials.
        """
        with self._making:
            if self._made is None:
                self._made = new_client()
            return self._made

    def _forget_client(self) -> None:
        """A forked process must not share connections with its parent, nor wait for its threads."""
        self._making = threading.Lock()
        self._made = None

    def _explained(self, what: str) -> AbstractContextManager[None]:
        return explained(what, self._patience)

    def _listed(self, bucket: str, **options: Any) -> Iterator[FoundFile]:
        where = f"{PREFIX}{bucket}"
        with self._explained(where):
            for blob in self.client().list_blobs(
                bucket, fields=_FIELDS, **options, **self._patience.options()
            ):
                if not blob.name.endswith("/"):  # Made by web consoles to show an empty folder.
                    yield _found(f"{where}/{blob.name}", blob)

    def _look(self, path: str) -> Any:
        """The object's metadata as a `Blob`, or None if there is no such object."""
        bucket, name = _split(path)
        with self._explained(path):
            return self.client().bucket(bucket).get_blob(name, **self._patience.options())

    def _blob(self, path: str) -> Any:
        bucket, name = _split(path)
        return self.client().bucket(bucket).blob(name)

    def _write(self, path: str, file: BinaryIO, check: Callable[[], None] | None = None) -> None:
        written, there = self._upload(path, file, ABSENT)
        if not written:
            if check:
                check()
            self._replace(path, file, there)

    def _replace(self, path: str, file: BinaryIO, generation: int) -> int:
        written, there = self._upload(path, file, generation)
        if not written:
            raise ChangedError(f"{path}: somebody else has written it meanwhile; theirs stays")
        return there

    def _upload(self, path: str, file: BinaryIO, generation: int) -> tuple[bool, int]:
        """Write an object in place of one generation of it, if that is still there.

        Returns whether the bytes are there now, and their generation; else the one that is there.
        The bytes may be there although the server refuses them: from an earlier try whose answer
        was lost.
        """
        from google.api_core.exceptions import PreconditionFailed

        blob = self._blob(path)
        size = file.seek(0, SEEK_END)
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        with self._explained(f"{path}: cannot be written"):
            try:
                blob.upload_from_file(
                    file, rewind=True, size=size, content_type=kind,
                    if_generation_match=generation, **self._patience.options(),
                )  # fmt: skip
            except PreconditionFailed:
                blob = self._look(path)
                if blob is None:
                    return False, ABSENT
                if (blob.size, blob.crc32c) != (size, _crc32c(file)):
                    return False, int(blob.generation)
        metering.count(metering.BYTES_WRITTEN, size)
        return True, int(blob.generation)

    def _delete(self, path: str) -> None:
        from google.api_core.exceptions import NotFound

        with self._explained(f"{path}: cannot be removed"):
            try:
                self._blob(path).delete(**self._patience.options())
            except NotFound:
                return


class _ObjectFile(RawIOBase):
    """One generation of an object as an unbuffered file: a request for each read."""

    def __init__(self, store: GcsStore, found: FoundFile):
        self._store = store
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
        buffer[:length] = self._store.read(found.path, self._position, length, found.version)
        self._position += length
        return length


def _split(path: str) -> tuple[str, str]:
    bucket, _, name = path.removeprefix(PREFIX).partition("/")
    if not bucket:
        raise AccessError(f"{path}: names no bucket; expected {PREFIX}BUCKET/NAME")
    return bucket, name


def _folder(path: str) -> tuple[str, str]:
    """The bucket, and the beginning of the names of all objects in the folder."""
    bucket, name = _split(path)
    return bucket, f"{name}/" if path != f"{PREFIX}{bucket}" else ""


def _found(path: str, blob: Any) -> FoundFile:
    created_ns = round(blob.time_created.timestamp() * 1e6) * 1000
    return FoundFile(path, blob.size, created_ns, blob.generation)


def _crc32c(file: BinaryIO) -> str:
    """The checksum as an object's metadata has it."""
    file.seek(0)
    checksum = google_crc32c.Checksum()
    deque(checksum.consume(file, BUFFER_BYTES), maxlen=0)
    return base64.b64encode(checksum.digest()).decode()
