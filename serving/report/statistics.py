"""Sums over all rows, in one pass. C concepts, K active concepts of a row, S rows kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.export.reader import Shards
from serving.export.verify import Watch
from serving.report.top_rows import Strongest

COLUMNS = ["indices", "values", "active"]


class Statistics:
    """What rows add up to; memory depends on C only."""

    def __init__(self, keep: int) -> None:
        """`keep` is S."""
        self.rows = 0
        self.cut = 0
        """Rows on which more concepts fired than the model's TopK kept."""
        self.active = np.zeros(1, np.int64)
        """Rows by how many concepts fired on them."""
        self.fired = np.zeros(0, np.int64)
        """(C,): rows on which a concept fired. C is as wide as was seen."""
        self.sums = np.zeros(0, np.float64)
        """(C,): of its values."""
        self.strongest = Strongest(keep)

    @classmethod
    def of(cls, shards: Shards, keep: int, watch: Watch) -> Statistics:
        """From all rows."""
        found = cls(keep)
        for receipt in watch(shards.receipts, "counting"):
            for batch in shards.batches(receipt, COLUMNS):
                found.add(batch)
        return found

    def add(self, batch: Any) -> None:
        """A pyarrow.RecordBatch of COLUMNS."""
        lengths = batch["indices"].value_lengths().to_numpy()
        concepts = batch["indices"].flatten().to_numpy()
        values = batch["values"].flatten().to_numpy()
        active = batch["active"].to_numpy()
        self.active = _sum(self.active, np.bincount(active))
        self.cut += int((active > lengths).sum())
        self.fired = _sum(self.fired, np.bincount(concepts))
        self.sums = _sum(self.sums, np.bincount(concepts, values))
        rows = np.repeat(np.arange(self.rows, self.rows + len(lengths)), lengths)
        self.strongest.add(concepts, values, rows)
        self.rows += len(lengths)

    @property
    def means(self) -> NDArray[np.float64]:
        """(C,): of a concept's values where it fires; 0 where it never does."""
        return self.sums / np.maximum(self.fired, 1)

    @property
    def mean_active(self) -> float:
        """Active concepts of a row."""
        return float(self.active @ np.arange(len(self.active))) / max(self.rows, 1)

    def percentile(self, percent: float) -> int:
        """The fewest active concepts that so many per cent of the rows do not exceed."""
        return int(np.searchsorted(self.active.cumsum(), self.rows * percent / 100))


def _sum(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """The shorter one counts as if zeros followed."""
    width = max(len(one), len(other))
    total: NDArray[Any] = np.pad(one, (0, width - len(one)))
    total[: len(other)] += other
    return total
