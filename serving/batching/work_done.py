"""What a batcher has run since its model was loaded."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(kw_only=True, slots=True)
class WorkDone:
    """Counts of runs and of their items."""

    runs: int = 0
    items: int = 0
    last_ended: float = 0.0
    """When the last run ended, in seconds since 1970; 0 before the first."""

    def count(self, items: int) -> None:
        """Counts a run that has ended."""
        self.runs += 1
        self.items += items
        self.last_ended = time.time()
