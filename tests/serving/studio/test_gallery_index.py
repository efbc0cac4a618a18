"""A search of a gallery is the cosine of codes, and says what it is made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engines.outputs import OutputRow
from serving.studio.gallery_index import GalleryIndex

C = 12


def code(values: dict[int, float]) -> OutputRow:
    row = np.array([values.get(i, 0.0) for i in range(C)], np.float32)
    return OutputRow(
        indices=np.flatnonzero(row).astype(np.uint32),
        values=row[row > 0],
        active=int((row > 0).sum()),
        norm=float(np.linalg.norm(row)),
        dense=np.zeros(0, np.float32),
        patches=None,
    )


CODES = st.lists(
    st.dictionaries(st.integers(0, C - 1), st.floats(0.01, 5), max_size=6), min_size=1, max_size=6
)
WEIGHTS = st.dictionaries(
    st.integers(0, C - 1), st.floats(-2, 2).filter(lambda w: abs(w) > 1e-3), min_size=1, max_size=5
)


@given(CODES, WEIGHTS)
def test_scores_are_cosines_and_the_sums_of_their_reasons(
    codes: list[dict[int, float]], weights: dict[int, float]
) -> None:
    index = GalleryIndex(dict(enumerate(map(code, codes))))
    query = np.array([weights.get(i, 0.0) for i in range(C)])
    expected = {}
    for row, values in enumerate(codes):
        vector = np.array([np.float32(values.get(i, 0.0)) for i in range(C)], float)
        cosine = vector @ query / (np.linalg.norm(vector) or 1) / np.linalg.norm(query)
        if cosine > 1e-9:
            expected[row] = cosine
    hits = index.search(weights, limit=10)
    found = {hit.row: hit.score for hit in hits if hit.score > 1e-9}
    assert found == pytest.approx(expected, abs=1e-6)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit in hits:
        assert sum(reason.contribution for reason in hit.reasons) == pytest.approx(hit.score)
        assert {reason.concept for reason in hit.reasons} == set(codes[hit.row]) & set(weights)


def test_evidence_is_the_strongest_pictures_first_and_only_those_that_fire() -> None:
    index = GalleryIndex({0: code({3: 0.5}), 1: code({3: 2.0, 4: 1.0}), 2: code({5: 1.0})})
    assert index.strongest(3, limit=5) == [(1, 2.0), (0, 0.5)]
    assert index.strongest(3, limit=1) == [(1, 2.0)]
    assert index.strongest(9, limit=5) == []


def test_an_empty_gallery_answers_nothing() -> None:
    index = GalleryIndex({})
    assert index.search({1: 1.0}, limit=3) == []
    assert index.strongest(1, limit=3) == []


def test_a_concept_with_a_negative_weight_speaks_against_a_picture() -> None:
    index = GalleryIndex({0: code({1: 1.0}), 1: code({1: 1.0, 2: 1.0})})
    hits = index.search({1: 1.0, 2: -0.5}, limit=5)
    assert [hit.row for hit in hits] == [0, 1]
    assert min(reason.contribution for reason in hits[1].reasons) < 0
