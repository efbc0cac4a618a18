"""What workers tell while they work, and what it adds up to."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from bundle.schema import from_dict
from serving.export.clock import STAGES, StageTime


@dataclass(frozen=True, kw_only=True)
class Step:
    """A shard that is finished."""

    worker: str
    entries: int
    """Rows and what is in quarantine."""
    kept: bool
    """It was there before."""
    stages: dict[str, StageTime]
    """Of the worker, since it began."""

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Step:
        """Raises SchemaError."""
        return from_dict(cls, json.loads(text), at="")


class Tally:
    """All steps of a run."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._stages: dict[str, Mapping[str, StageTime]] = {}
        self.made = 0
        """Entries that this run finished."""

    def add(self, step: Step) -> None:
        """Counts a step."""
        self.made += 0 if step.kept else step.entries
        self._stages[step.worker] = step.stages

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began

    @property
    def rate(self) -> float:
        """Entries a second."""
        return self.made / max(self.seconds, 1e-9)

    @property
    def busy(self) -> dict[str, float]:
        """Share of the time that each stage's workers were busy, 0 to 1."""
        return {stage: self._busy(stage) for stage in STAGES}

    @property
    def bottleneck(self) -> str:
        """The stage whose workers were busiest."""
        return max(STAGES, key=self._busy)

    def _busy(self, stage: str) -> float:
        times = [stages[stage] for stages in self._stages.values()]
        workers = sum(time.workers for time in times)
        return min(1.0, sum(time.seconds for time in times) / max(workers * self.seconds, 1e-9))
