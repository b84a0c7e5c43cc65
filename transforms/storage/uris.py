"""URIs: the path that a URI stands for (RFC 3986, RFC 8089)."""

import re
from urllib.parse import unquote

from transforms.storage.files import StorageError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)")
_FILE = re.compile(r"file:/", re.IGNORECASE)
_THIS_MACHINE = ("", "localhost")


def path_of(uri: str) -> str:
    """The path that a URI stands for; a plain path is its own, whatever characters it has.

    Of a `file:` URI the path is percent-decoded; its host, query and fragment are left out. Other
    schemes become lower case.

    >>> path_of("file:///data/Main%20Street/1.jpg")
    '/data/Main Street/1.jpg'
    >>> path_of("GS://town/50%25.jpg")
    'gs://town/50%25.jpg'
    >>> path_of("50%25 #1?.jpg")
    '50%25 #1?.jpg'

    Raises:
        StorageError: a `file:` URI names another machine, or no path.
    """
    if not _FILE.match(uri):
        scheme = _SCHEME.match(uri)
        return scheme[0].lower() + uri[scheme.end() :] if scheme else uri
    hierarchy = re.split("[?#]", uri[len("file:") :], maxsplit=1)[0]
    host, path = "", hierarchy
    if hierarchy.startswith("//"):
        host, slash, rest = hierarchy[2:].partition("/")
        path = slash + rest
    if host.lower() not in _THIS_MACHINE:
        raise StorageError(
            f"{uri}: is on the host {host!r}, and files are read from this machine only; "
            "a local path has three slashes, as in file:///data/a.jpg"
        )
    if not path:
        raise StorageError(f"{uri}: names no file; expected a path, as in file:///data/a.jpg")
    return "/" + unquote(path, errors="surrogateescape").lstrip("/")
