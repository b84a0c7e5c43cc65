"""Concurrency: maps ahead in threads, so that waiting times overlap."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

REQUESTS = 16
"""Concurrent requests to storage; they mostly wait."""


class Pause(Enum):
    """Marks, among items, that there are none for now but more may follow."""

    PAUSE = "pause"


def map_ahead(
    pool: ThreadPoolExecutor,
    function: Callable[[T], R],
    items: Iterable[T | Pause],
    depth: int,
) -> Iterator[R | Pause]:
    """Map in the pool and in order, with at most `depth` items in progress.

    A pause is passed on at once; items in progress stay so.
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
    """Map a function that waits for storage, in order, `REQUESTS` items at a time."""
    with ThreadPoolExecutor(REQUESTS, "request") as pool:
        for result in map_ahead(pool, function, items, REQUESTS):
            if not isinstance(result, Pause):
                yield result
