"""Why entries have no row."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from serving.export.reader import Shards
from serving.export.verify import Watch

REASONS = 20
"""Shown, the most frequent first."""
IDS = 10
"""Shown of each reason: the first ones."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Entries that share one."""

    reason: str
    count: int
    ids: list[str]


def reasons_of(shards: Shards, watch: Watch) -> list[Reason]:
    """From all entries in quarantine."""
    counts: Counter[str] = Counter()
    first: dict[str, list[str]] = {}
    for receipt in watch([r for r in shards.receipts if r.quarantined], "reading quarantine"):
        for batch in shards.quarantine(receipt, ["id", "reason"]):
            pairs = zip(batch["id"].to_pylist(), batch["reason"].to_pylist(), strict=True)
            for id, reason in pairs:
                counts[reason] += 1
                ids = first.setdefault(reason, [])
                if len(ids) < IDS:
                    ids.append(id)
    return [Reason(reason=r, count=n, ids=first[r]) for r, n in counts.most_common(REASONS)]
