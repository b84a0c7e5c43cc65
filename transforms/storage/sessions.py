"""The HTTP session of the storage client: it counts requests, and keeps enough connections."""

from typing import Any

from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from transforms.storage import metering


class MeteredSession(AuthorizedSession):
    """An authorised session whose requests are counted by their kind, each try for itself.

    Args:
        credentials: whose requests they are.
        connections: most connections to a host that are kept open.
    """

    def __init__(self, credentials: Credentials, connections: int):
        super().__init__(credentials)
        for scheme in ("https://", "http://"):
            self.mount(scheme, HTTPAdapter(pool_connections=2, pool_maxsize=connections))

    def send(self, request: PreparedRequest, **options: Any) -> Response:
        """Count a request, and make it."""
        metering.count(_kind(request.method or "", request.url or ""))
        return super().send(request, **options)


def _kind(method: str, url: str) -> str:
    if method == "DELETE":
        return metering.REMOVE
    if method != "GET":
        return metering.WRITE
    path = url.partition("?")[0]
    if path.endswith("/o"):
        return metering.LIST
    return metering.READ if "alt=media" in url else metering.LOOK
