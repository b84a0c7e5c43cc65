"""Concurrency: mapping ahead in threads, so that waiting for one thing overlaps with others."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

REQUESTS = 16
"""Requests to storage that are on their way at the same time; they wait more than they work."""


class Pause(Enum):
    """Stands among items for: there are no more for now, but others may come."""

    PAUSE = "pause"


def map_ahead(
    pool: ThreadPoolExecutor,
    function: Callable[[T], R],
    items: Iterable[T | Pause],
    depth: int,
) -> Iterator[R | Pause]:
    """Map in the pool and in order, with at most `depth` items on their way.

    A pause is passed on at once: what is on its way stays there.
    """
    pending: deque[Future[R]] = deque()
    for item in items:
        if isinstance(item, Pause):
            yield item
            continue
        pending.append(pool.submit(function, item))
        if len(pending) >= depth:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def map_requests(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Map what waits for storage, in order and several items at a time."""
    with ThreadPoolExecutor(REQUESTS, "request") as pool:
        for result in map_ahead(pool, function, items, REQUESTS):
            if not isinstance(result, Pause):
                yield result
