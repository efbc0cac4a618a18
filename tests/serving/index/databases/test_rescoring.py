"""Negative weights, scored on this side: exact however little is fetched at first."""

from __future__ import annotations

import numpy as np
import pytest

from serving.index.databases._rescoring import Candidate, search_signed
from serving.index.databases.base import Code


@pytest.mark.parametrize("seed", range(20))
def test_the_answer_is_that_of_all_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.random((300, 12)) * (rng.random((300, 12)) < 0.3)
    weights = rng.normal(size=12).astype(np.float32)
    counts: list[int] = []

    def find(query: Code, count: int) -> list[Candidate]:
        counts.append(count)
        assert (query.values > 0).all()
        scores = rows[:, query.indices] @ query.values
        best = [row for row in np.argsort(-scores)[:count] if scores[row] > 0]
        return [Candidate(str(row), "", dict(enumerate(rows[row]))) for row in best]

    query = Code(np.arange(12, dtype=np.uint32), weights)
    hits = search_signed(find, query, 10, 300)
    scores = rows @ weights
    expected = [score for score in sorted(scores, reverse=True)[:10] if score > 0]
    np.testing.assert_allclose([hit.score for hit in hits], expected, rtol=1e-5)
    for hit in hits:
        assert hit.score == pytest.approx(scores[int(hit.id)], rel=1e-5)
    assert counts == sorted(set(counts))


def test_no_more_is_fetched_than_a_database_gives() -> None:
    code = {0: 1.0, 1: 1.0}
    counts: list[int] = []

    def find(query: Code, count: int) -> list[Candidate]:
        counts.append(count)
        return [Candidate(str(row), "", code) for row in range(count)]

    query = Code(np.array([0, 1], np.uint32), np.array([1, -2], np.float32))
    assert search_signed(find, query, 3, 40) == []
    assert counts == [12, 40]
