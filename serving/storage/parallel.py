"""Many waits at a time: an object store takes its time for each request."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

THREADS = 16
AT_ONCE = 1024
"""Items that are given to the threads at once."""

T = TypeVar("T")
R = TypeVar("R")


def mapped(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What a function gives for each item, in their order; it runs in several threads."""
    rest = iter(items)
    with ThreadPoolExecutor(THREADS) as pool:
        while part := list(itertools.islice(rest, AT_ONCE)):
            yield from pool.map(function, part)
