"""Many requests to an object store at the same time: each one alone takes long."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from serving.storage.location import Location

THREADS = 16
SUBMITTED_ITEMS = 1024
"""Items that the threads are given together, so that an endless iterable is not read ahead."""
RANGES_IN_MEMORY = 64
"""File ranges that are read, and held in memory, together."""

T = TypeVar("T")
R = TypeVar("R")


class FileRange(NamedTuple):
    """A file, or some of its bytes."""

    location: Location
    start: int = 0
    end: int | None = None


def map_in_threads(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What a function returns for each item, in the items' order."""
    remaining = iter(items)
    with ThreadPoolExecutor(THREADS) as pool:
        while submitted := list(itertools.islice(remaining, SUBMITTED_ITEMS)):
            yield from pool.map(function, submitted)


def read_ranges(ranges: Sequence[FileRange]) -> Iterator[bytes | OSError]:
    """The bytes of each range, or why they cannot be read, in their order. Raises LocationError
    when an object store does not answer."""
    for first in range(0, len(ranges), RANGES_IN_MEMORY):
        batch = ranges[first : first + RANGES_IN_MEMORY]
        for _, group in itertools.groupby(batch, lambda part: id(part.location.fs)):
            yield from _read_together(list(group))


def _read_together(ranges: list[FileRange]) -> Iterator[bytes | OSError]:
    """Ranges of one file system, which a store's client requests at the same time."""
    locations, starts, ends = map(list, zip(*ranges, strict=True))
    paths = [location.path for location in locations]
    results = locations[0].fs.cat_ranges(paths, starts, ends, on_error="return")
    for location, result in zip(locations, results, strict=True):
        try:
            with location.translate_errors():
                if isinstance(result, Exception):
                    raise result
        except OSError as error:
            yield error
        else:
            yield result
