"""Where an export's time goes: how busy each stage was."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

STAGES = ("read", "decode", "model", "write")


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """One stage of a run."""

    seconds: float
    """Busy, over all that work at it."""
    workers: int
    """That work at it at the same time."""

    def busy(self, wall: float) -> float:
        """Share of the time that its workers were busy, 0 to 1."""
        return min(1.0, self.seconds / max(wall * self.workers, 1e-9))


class Clock:
    """Adds up busy seconds; any thread may use it."""

    def __init__(self, workers: Mapping[str, int]) -> None:
        self._workers = workers
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._lock = threading.Lock()
        self._began = time.monotonic()

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
    def wall(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    @property
    def stages(self) -> dict[str, StageTime]:
        """All stages."""
        return {
            stage: StageTime(seconds=self._seconds[stage], workers=self._workers[stage])
            for stage in STAGES
        }

    @property
    def bottleneck(self) -> str:
        """The stage whose workers were busiest."""
        wall = self.wall
        return max(self.stages.items(), key=lambda item: item[1].busy(wall))[0]
