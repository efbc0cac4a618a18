"""Queries with negative weights for databases that take none: rows are scored here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from serving.index.databases.base import Code, Hit

CANDIDATE_FACTOR = 4
"""How many times as many rows as are wanted are fetched first, and by how many times more whenever
that was too few."""


class Candidate(NamedTuple):
    """A row with its code, as a database gave it."""

    id: str
    source: str
    code: dict[int, float]


FindNearest = Callable[[Code, int], list[Candidate]]
"""The rows nearest to a query without negative weights, that many of them, best first."""


def search_signed(find_nearest: FindNearest, query: Code, top: int, max_rows: int) -> list[Hit]:
    """The nearest rows to a query that may have negative weights.

    Rows hold nothing below 0, so a negative weight only lowers a score: no row that was not fetched
    can beat the score that the last fetched row has by the positive weights alone. More rows are
    fetched until that settles the `top`, or `max_rows` are fetched. Among `max_rows` rows the
    answer is exact.
    """
    positive = query.values > 0
    positive_query = Code(query.indices[positive], query.values[positive])
    weights, positive_weights = query.pairs(), positive_query.pairs()
    count = min(max_rows, top * CANDIDATE_FACTOR)
    while True:
        candidates = find_nearest(positive_query, count)
        hits = [Hit(row.id, row.source, _dot(row.code, weights)) for row in candidates]
        best = sorted((hit for hit in hits if hit.score > 0), key=lambda hit: -hit.score)[:top]
        if len(candidates) < count or count == max_rows:
            return best
        # An upper bound on the score of every row that was not fetched.
        bound = _dot(candidates[-1].code, positive_weights)
        if len(best) == top and best[-1].score >= bound:
            return best
        count = min(max_rows, count * CANDIDATE_FACTOR)


def _dot(code: dict[int, float], weights: dict[int, float]) -> float:
    shared = [concept for concept in weights if concept in code]
    return float(np.sum([np.float64(code[i]) * weights[i] for i in shared]))
