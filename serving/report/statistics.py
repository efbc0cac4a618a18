"""Counts over all rows and over all quarantined entries, in one pass each. C concepts, S rows kept
for each concept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.export.export_reader import ExportReader
from serving.export.verify_export import TrackProgress
from serving.report.top_rows import TopRows

COLUMNS = ["indices", "values", "active"]
MAX_REASONS = 20
"""Reasons that are listed, the most frequent first. All others are counted together."""
MAX_IDS = 10
"""Ids that are listed for each reason, the first ones."""


class Statistics:
    """What rows add up to. Memory depends on C only."""

    def __init__(self, keep: int) -> None:
        """`keep` is S."""
        self.rows = 0
        self.cut = 0
        """Rows on which more concepts fired than the model's TopK kept."""
        self.active = np.zeros(1, np.int64)
        """Element n is the number of rows on which n concepts fired."""
        self.fired = np.zeros(0, np.int64)
        """(C,): rows on which each concept fired. C is the highest id that fired, plus 1."""
        self.sums = np.zeros(0, np.float64)
        """(C,): the sum of each concept's values."""
        self.top_rows = TopRows(keep)

    @classmethod
    def of(cls, export: ExportReader, keep: int, track: TrackProgress) -> Statistics:
        """Reads all rows once."""
        statistics = cls(keep)
        for receipt in track(export.receipts, "counting"):
            for batch in export.batches(receipt, COLUMNS):
                statistics.add(batch)
        return statistics

    def add(self, batch: Any) -> None:
        """Adds the rows of a pyarrow.RecordBatch of COLUMNS."""
        lengths = batch["indices"].value_lengths().to_numpy()
        concepts = batch["indices"].flatten().to_numpy()
        values = batch["values"].flatten().to_numpy()
        active = batch["active"].to_numpy()
        self.active = _add(self.active, np.bincount(active))
        self.cut += int((active > lengths).sum())
        self.fired = _add(self.fired, np.bincount(concepts))
        self.sums = _add(self.sums, np.bincount(concepts, values))
        rows = np.repeat(np.arange(self.rows, self.rows + len(lengths)), lengths)
        self.top_rows.add(concepts, values, rows)
        self.rows += len(lengths)

    @property
    def means(self) -> NDArray[np.float64]:
        """(C,): the mean of each concept's values where it fires; 0 where it never does."""
        return self.sums / np.maximum(self.fired, 1)

    @property
    def mean_active(self) -> float:
        """The mean number of active concepts of a row."""
        return float(self.active @ np.arange(len(self.active))) / max(self.rows, 1)

    def percentile(self, percent: float) -> int:
        """The smallest number of active concepts that this percentage of the rows does not
        exceed."""
        return int(np.searchsorted(self.active.cumsum(), self.rows * percent / 100))


@dataclass(frozen=True, kw_only=True)
class QuarantineReason:
    """Why entries have no row."""

    reason: str
    count: int
    """Entries with this reason."""
    ids: list[str]
    """The first of them; none for the row of all other reasons."""


def count_reasons(export: ExportReader, track: TrackProgress) -> list[QuarantineReason]:
    """The reasons of all quarantined entries, the most frequent first."""
    counts: Counter[str] = Counter()
    first_ids: dict[str, list[str]] = {}
    receipts = [receipt for receipt in export.receipts if receipt.quarantined]
    for receipt in track(receipts, "reading quarantine"):
        for batch in export.quarantine(receipt, ["id", "reason"]):
            pairs = zip(batch["id"].to_pylist(), batch["reason"].to_pylist(), strict=True)
            for id, reason in pairs:
                counts[reason] += 1
                ids = first_ids.setdefault(reason, [])
                if len(ids) < MAX_IDS:
                    ids.append(id)
    listed = [
        QuarantineReason(reason=reason, count=count, ids=first_ids[reason])
        for reason, count in counts.most_common(MAX_REASONS)
    ]
    if others := counts.total() - sum(reason.count for reason in listed):
        listed.append(QuarantineReason(reason="other reasons", count=others, ids=[]))
    return listed


def _add(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """The sum of arrays of different lengths; the shorter one counts as if zeros followed."""
    width = max(len(one), len(other))
    total: NDArray[Any] = np.pad(one, (0, width - len(one)))
    total[: len(other)] += other
    return total
