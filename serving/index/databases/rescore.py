"""Queries with negative weights for databases that take none: fetch more, score again, exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from serving.index.databases.base import Code, Hit

AHEAD = 4
"""Times as many rows are fetched as are wanted, and so many times more when that was too few."""


class Found(NamedTuple):
    """A row with its code, as a database found it."""

    id: str
    source: str
    code: dict[int, float]


Find = Callable[[Code, int], list[Found]]
"""The so many rows nearest to a query without negative weights, best first."""


def search_signed(find: Find, query: Code, top: int, most: int) -> list[Hit]:
    """The nearest rows to a query that may have negative weights.

    Rows hold nothing below 0, so a negative weight only lowers a score: no row that was not
    fetched beats the last one that was, by its positive part. More are fetched until that settles
    the `top`, or `most` are. Up to `most` rows the answer is exact.
    """
    positive = query.values > 0
    part = Code(query.indices[positive], query.values[positive])
    weights, positives = query.pairs(), part.pairs()
    count = min(most, top * AHEAD)
    while True:
        found = find(part, count)
        hits = [Hit(row.id, row.source, _dot(row.code, weights)) for row in found]
        best = sorted((hit for hit in hits if hit.score > 0), key=lambda hit: -hit.score)[:top]
        if len(found) < count or count == most:
            return best
        if len(best) == top and best[-1].score >= _dot(found[-1].code, positives):
            return best
        count = min(most, count * AHEAD)


def _dot(code: dict[int, float], weights: dict[int, float]) -> float:
    shared = [concept for concept in weights if concept in code]
    return float(np.sum([np.float64(code[i]) * weights[i] for i in shared]))
