"""Where a worker's time goes: how long each stage was busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

STAGES = ("read", "decode", "model", "write")


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """One stage of a worker."""

    seconds: float
    """Busy, over all that work at it."""
    workers: int
    """That work at it at the same time."""


class Clock:
    """Adds up busy seconds; any thread may use it."""

    def __init__(self, workers: Mapping[str, int]) -> None:
        self._workers = workers
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._lock = threading.Lock()

    @contextmanager
    def busy(self, stage: str) -> Iterator[None]:
        """Counts the time inside the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._seconds[stage] += time.perf_counter() - began

    @property
    def stages(self) -> dict[str, StageTime]:
        """All stages."""
        return {
            stage: StageTime(seconds=self._seconds[stage], workers=self._workers[stage])
            for stage in STAGES
        }
