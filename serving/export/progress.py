"""How far an export is, and where its workers' time goes."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from bundle.schema import from_dict

STAGES = ("read", "decode", "model", "write")


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """How long one stage of a worker was busy."""

    seconds: float
    """The sum over all threads or processes of the stage."""
    workers: int
    """Threads or processes that work at the stage at the same time."""


class StageTimer:
    """Adds up how long each stage of a worker is busy. Any thread may use it."""

    def __init__(self, workers: Mapping[str, int]) -> None:
        """`workers` says how many threads or processes each stage has."""
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
        """The time of each stage so far."""
        return {
            stage: StageTime(seconds=self._seconds[stage], workers=self._workers[stage])
            for stage in STAGES
        }


@dataclass(frozen=True, kw_only=True)
class WorkerProgress:
    """What a worker reports after every batch, and for every shard that was finished before."""

    worker: str
    entries: int
    """Entries that have a row or a reason now."""
    kept: bool
    """Whether they had it before this run."""
    stages: dict[str, StageTime]
    """The worker's stages since it started."""

    def to_json(self) -> str:
        """The report as `from_json` reads it."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerProgress:
        """Reads what `to_json` writes. Raises SchemaError."""
        return from_dict(cls, json.loads(text), at="")


OnProgress = Callable[[WorkerProgress], None]
"""Called with every report, in the process that shows the progress."""


class RunProgress:
    """What all workers of a run have reported."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._stages: dict[str, Mapping[str, StageTime]] = {}
        self.entries = 0
        """Entries that this run finished, without those that were finished before."""
        self.done = 0
        """Entries that are finished, also those of runs before."""

    def add(self, report: WorkerProgress) -> None:
        """Counts a report."""
        self.entries += 0 if report.kept else report.entries
        self.done += report.entries
        self._stages[report.worker] = report.stages

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    @property
    def rate(self) -> float:
        """Entries per second."""
        return self.entries / max(self.seconds, 1e-9)

    @property
    def busy(self) -> dict[str, float]:
        """The share of the time that each stage was busy, 0 to 1, over all workers."""
        return {stage: self._busy(stage) for stage in STAGES}

    @property
    def bottleneck(self) -> str:
        """The busiest stage."""
        return max(STAGES, key=self._busy)

    def _busy(self, stage: str) -> float:
        times = [stages[stage] for stages in self._stages.values()]
        workers = sum(time.workers for time in times)
        return min(1.0, sum(time.seconds for time in times) / max(workers * self.seconds, 1e-9))
