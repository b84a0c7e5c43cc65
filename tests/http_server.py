"""HTTP servers on the loopback whose answers are made by a plain function.

They keep connections open, as the services do that they stand for: a client behaves differently on
a connection that it uses again. (Werkzeug's own server, and pytest-httpserver with it, closes each
connection after one answer.)
"""

import errno
import threading
from typing import Any, ClassVar

from cheroot import wsgi
from werkzeug import Request, Response

THREADS = 16
"""Requests that are answered at the same time."""

CONNECTIONS = 1000
"""Idle connections that are kept open."""

IDLE_SECONDS = 600.0
"""Seconds after which an idle connection is closed: none is, within a test."""

POLL_SECONDS = 0.01
"""Seconds between two looks whether the server is to stop."""


class HttpServer:
    """A server; as a context it listens on a free port. Subclasses define `answer`.

    Attributes:
        host: as clients are to call it.
    """

    host: ClassVar[str] = "127.0.0.1"

    def answer(self, request: Request) -> Response:
        """Answer a request; called in several threads at a time.

        Raises:
            HangUpError: the connection is closed, after what of the response was sent before.
        """
        raise NotImplementedError

    def __enter__(self) -> "HttpServer":
        self._server = wsgi.Server(
            ("127.0.0.1", 0),
            Request.application(self._respond),
            numthreads=THREADS,
            request_queue_size=CONNECTIONS,
            timeout=IDLE_SECONDS,
        )
        self._server.keep_alive_conn_limit = CONNECTIONS
        self._server.expiration_interval = POLL_SECONDS
        self._server.prepare()
        threading.Thread(target=self._server.serve, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.stop()

    def _respond(self, request: Request) -> Response:
        request.get_data()  # What is not read would be taken for the connection's next request.
        return self.answer(request)

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://{self.host}:{self._server.bind_addr[1]}"


class HangUpError(ConnectionResetError):
    """Closes the connection of the request that is being answered."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the server hangs up")


def target(request: Request) -> str:
    """The path of a request with its query, as it was sent."""
    return request.environ["REQUEST_URI"]
