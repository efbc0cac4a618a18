"""Many reads and calls at the same time: results come in the order of what was asked."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

from serving.storage.location import Location
from serving.storage.parallel import THREADS, FileRange, map_in_threads, read_ranges


def test_files_of_several_stores_are_read_in_their_order(tmp_path: Path) -> None:
    here, there = Location.parse(str(tmp_path)), Location.parse("memory://several")
    ranges = []
    for number in range(150):
        file = (here, there)[number // 3 % 2].at(f"folder/../{number}")
        if number % 10:
            file.write(str(number).encode())
        ranges.append(FileRange(file, 1 if number >= 100 else 0))
    for number, data in enumerate(read_ranges(ranges)):
        if number % 10:
            assert data == str(number)[number >= 100 :].encode()
        else:
            assert isinstance(data, FileNotFoundError)
    assert (tmp_path / "1").exists()


def test_calls_run_side_by_side_and_an_endless_iterable_is_not_read_ahead() -> None:
    together = threading.Barrier(THREADS, timeout=30)  # passes only when all threads are in a call

    def double(number: int) -> int:
        if number < THREADS:
            together.wait()
        return 2 * number

    doubled = map_in_threads(double, itertools.count())
    assert list(itertools.islice(doubled, 3000)) == list(range(0, 6000, 2))
