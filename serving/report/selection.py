"""Which of the concepts that fire are worth a look."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.report.statistics import Statistics

COMMON = 0.5
"""A concept that fires on a larger share of the rows tells little of any of them."""


def by_frequency(found: Statistics) -> NDArray[np.int64]:
    """Concepts that fire, the most frequent first."""
    return np.argsort(-found.fired, kind="stable")[: np.count_nonzero(found.fired)]


def compared(found: Statistics) -> list[int]:
    """The most frequent concepts, the common ones last."""
    common = found.fired > COMMON * found.rows
    return sorted(by_frequency(found).tolist(), key=lambda concept: bool(common[concept]))


def clearest(found: Statistics, count: int) -> list[int]:
    """The concepts of the strongest examples on average, of which there must be enough. Those that
    mostly have others' examples come after them, common ones last."""
    ids = by_frequency(found)
    common = found.fired > COMMON * found.rows
    strength = found.strongest.values.mean(axis=1)  # a row too few counts as 0
    order = ids[np.lexsort((ids, -strength[ids], common[ids]))].tolist()
    seen: set[int] = set()
    fresh: list[int] = []
    others: list[int] = []
    for concept in order:
        if len(fresh) == count:
            break
        rows = set(found.strongest.of(concept).tolist())
        if common[concept] or len(rows - seen) < len(rows) / 2:
            others.append(concept)
        else:
            fresh.append(concept)
            seen |= rows
    return (fresh + others)[:count]
