"""A proxy on the loopback that disturbs what goes through it, the same way in every run."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

import urllib3

PASS = "pass"
LATE = "late answer"
DROP = "drop the request"
DROP_ANSWER = "drop the answer"
TRUNCATE = "truncate the answer"
BUSY = "503"
SLOW_DOWN = "429"
CORRUPT = "corrupt the answer"
DISTURBANCES = (LATE, DROP, DROP_ANSWER, TRUNCATE, BUSY, SLOW_DOWN)

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


def sometimes(share: float, seed: int) -> Callable[[str, str], str]:
    """A choice that disturbs a share of all requests, each in one of the ways.

    What happens to the n-th request of a method and route does not depend on what other threads ask
    for meanwhile.
    """
    before: Counter[tuple[str, str]] = Counter()
    lock = threading.Lock()

    def choice(method: str, path: str) -> str:
        request = (method, path.partition("?")[0])
        with lock:
            before[request] += 1
            random = Random(f"{seed} {request} {before[request]}")
        return random.choice(DISTURBANCES) if random.random() < share else PASS

    return choice


def once(action: str, method: str, part: str = "", after: int = 0) -> Callable[[str, str], str]:
    """A choice that disturbs one request of a method whose path holds a part, after some others."""
    left = iter([*[PASS] * after, action])

    def choice(asked: str, path: str) -> str:
        return next(left, PASS) if asked == method and part in path else PASS

    return choice


def always(action: str, part: str = "") -> Callable[[str, str], str]:
    """A choice that disturbs all requests whose path holds a part."""
    return lambda method, path: action if part in path else PASS


@dataclass
class FaultyProxy:
    """The proxy; as a context it listens on a free port.

    Attributes:
        upstream: URL of the server behind it.
        choose: what happens to a request of a method and path.
        delay: seconds before every answer.
        late: seconds before a late answer.
        done: how often what was done.
    """

    upstream: str
    choose: Callable[[str, str], str] = lambda method, path: PASS
    delay: float = 0.0
    late: float = 0.3
    done: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> "FaultyProxy":
        self.pool = urllib3.PoolManager(maxsize=64, retries=False)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.proxy = self
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._http.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        self._forward()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass

    def _forward(self) -> None:
        proxy: FaultyProxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        action = proxy.choose(self.command, self.path)
        proxy.done[action] += 1
        time.sleep(proxy.late if action == LATE else proxy.delay)
        if action in (BUSY, SLOW_DOWN):
            return self._send(int(action), {}, b'{"error": {"message": "busy"}}')
        if action == DROP:
            return self._hang_up()
        answer = proxy.pool.request(
            self.command,
            proxy.upstream + self.path,
            body=body,
            headers={k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP},
            decode_content=False,
        )
        if action == DROP_ANSWER:
            return self._hang_up()
        headers = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP}
        data = answer.data
        if action == CORRUPT:
            data = bytes([data[0] ^ 1]) + data[1:]
        return self._send(answer.status, headers, data, truncated=action == TRUNCATE)

    def _send(self, status: int, headers: dict, data: bytes, truncated: bool = False) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if truncated and data:
            self.wfile.write(data[: len(data) // 2])
            self._hang_up()
        else:
            self.wfile.write(data)

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
