"""URLs in messages: only scheme and host, as the rest of a web hook's URL is often its password."""

import re

_SECRET = re.compile(r"((?:[\w+.-]+:)?/{0,2})([^/?#@]*)(.*)", re.DOTALL)
_URL = re.compile(r"""(https?:/{0,2})([^\s/?#'"]*)([^\s'"]*)""", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """Text in which only scheme, host and port of each URL are left.

    >>> without_secrets("found 'https://hooks.example:8443/services/T0?token=x'")
    "found 'https://hooks.example:8443/...'"
    >>> without_secrets("https://me:password@hooks.example/")
    'https://...'
    """
    return _URL.sub(_shown, text)


def host_of(secret: str) -> str:
    """The same of one text that is to be a URL, whatever it is in truth.

    >>> host_of("hooks.example/services/T0")
    'hooks.example/...'
    """
    return _SECRET.sub(_shown, secret, count=1)


def _shown(url: re.Match[str]) -> str:
    scheme, host, rest = url.groups()
    if "@" in host + rest:  # A name and a password, and maybe a slash in it.
        return f"{scheme}..."
    return f"{scheme}{host}/..." if rest.strip("/") else f"{scheme}{host}{rest}"
