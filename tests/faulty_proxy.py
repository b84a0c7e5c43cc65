"""A proxy on the loopback that disturbs what goes through it, the same way in every run."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

import urllib3
from werkzeug import Request, Response

from tests.http_server import HangUpError, HttpServer, target

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
class FaultyProxy(HttpServer):
    """The proxy.

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

    def __post_init__(self) -> None:
        self.pool = urllib3.PoolManager(maxsize=64, retries=False)

    def answer(self, request: Request) -> Response:
        path = target(request)
        action = self.choose(request.method, path)
        self.done[action] += 1
        time.sleep(self.late if action == LATE else self.delay)
        if action in (BUSY, SLOW_DOWN):
            return Response(b'{"error": {"message": "busy"}}', int(action))
        if action == DROP:
            raise HangUpError
        answer = self.pool.request(
            request.method,
            self.upstream + path,
            body=request.get_data(),
            headers=_passed_on(request.headers),
            decode_content=False,
        )
        data = answer.data
        if action == DROP_ANSWER:
            raise HangUpError
        if action == CORRUPT:
            data = bytes([data[0] ^ 1]) + data[1:]
        response = Response(data, answer.status, _passed_on(answer.headers))
        if action == TRUNCATE and data:
            response.content_length = len(data)
            response.response = _half(data)
        return response


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key.lower() not in HOP_BY_HOP}


def _half(data: bytes) -> Iterator[bytes]:
    """The first half of the data, after which the connection is closed."""
    yield data[: len(data) // 2]
    raise HangUpError
