"""The choice of the concepts that a report shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.report.statistics import Statistics

WEAK_SHARE = 0.1
"""A concept whose strongest rows reach less than this share of what the strongest concept reaches
shows noise."""
COMMON_SHARE = 0.5
"""A concept that fires on a larger share of the rows says little about any of them."""


def by_frequency(statistics: Statistics) -> NDArray[np.int64]:
    """Concepts that fire, the most frequent first."""
    order = np.argsort(-statistics.fired, kind="stable")
    return order[: np.count_nonzero(statistics.fired)]


def concepts_to_compare(statistics: Statistics) -> list[int]:
    """The most frequent concepts first, but the common ones last."""
    common = statistics.fired > COMMON_SHARE * statistics.rows
    return sorted(by_frequency(statistics).tolist(), key=lambda concept: bool(common[concept]))


def concepts_to_show(statistics: Statistics, count: int) -> list[int]:
    """The concepts whose strongest rows have the highest values on average.

    A concept comes last when it is weak beside the others, or common, or when most of its rows are
    those of a concept before it: the report would show the same images again.
    """
    ids = by_frequency(statistics)
    common = statistics.fired > COMMON_SHARE * statistics.rows
    strength = statistics.top_rows.values.mean(axis=1)  # a row that is missing counts as 0
    weak = strength < WEAK_SHARE * strength.max(initial=0.0)
    order = ids[np.lexsort((ids, -strength[ids], common[ids], weak[ids]))].tolist()
    shown_rows: set[int] = set()
    distinct: list[int] = []
    others: list[int] = []
    for concept in order:
        if len(distinct) == count:
            break
        rows = set(statistics.top_rows.of(concept).tolist())
        if common[concept] or weak[concept] or len(rows - shown_rows) < len(rows) / 2:
            others.append(concept)
        else:
            distinct.append(concept)
            shown_rows |= rows
    return (distinct + others)[:count]
