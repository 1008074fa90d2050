"""Reads the rows of the next steps while a step is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
AHEAD = 2  # steps


@contextmanager
def prefetched(make: Callable[[int], Item], start: int, stop: int) -> Iterator[Iterator[Item]]:
    """make(start), ..., make(stop - 1), each made in one background thread ahead of time."""
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
    waiting: deque[Future] = deque()

    def items() -> Iterator[Item]:
        for step in range(start, stop):
            while len(waiting) < AHEAD and step + len(waiting) < stop:
                waiting.append(pool.submit(make, step + len(waiting)))
            yield waiting.popleft().result()

    try:
        yield items()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
