"""Concurrency: mapping ahead in threads, so that waiting for one thing overlaps with others."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

REQUESTS = 16
"""Requests to storage that are on their way at the same time; they wait more than they work."""


def map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], depth: int
) -> Iterator[R]:
    """Map in the pool and in order, with at most `depth` items on their way."""
    pending: deque[Future[R]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) >= depth:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def map_requests(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Map what waits for storage, in order and several items at a time."""
    with ThreadPoolExecutor(REQUESTS, "request") as pool:
        yield from map_ahead(pool, function, items, REQUESTS)
