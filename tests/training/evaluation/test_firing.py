"""Sorting sparse codes gives what sorting dense ones would, ties and all."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation import firing as room
from training.evaluation.firing import norms, sparse_codes, strongest
from training.evaluation.metrics import Floats
from training.evaluation.name_trials import (
    FOLDS,
    HUB_BORNE_OUT,
    HUB_DEVIATIONS,
    STRONGEST_CONCEPTS,
    STRONGEST_IMAGES,
    BestWords,
    calibrate,
    find_hubs,
)

IMAGES, CONCEPTS = 600, 90
NAMES = [f"word{k}" for k in range(CONCEPTS)]


@pytest.fixture(scope="module")
def codes() -> Floats:
    """Codes with ties, a concept that never fires, images that fire nothing, and a hub."""
    draw = np.random.default_rng(5)
    result = np.maximum(draw.standard_normal((IMAGES, CONCEPTS)) - 1.2, 0)
    result[:, 3] = 0
    result[:, 4] = 3
    result[::50] = 0
    return result.round(1).astype(np.float32)


@pytest.fixture(scope="module")
def image_words(codes: Floats) -> list[set[str]]:
    """Some words of what each image fires."""
    draw = np.random.default_rng(6)
    return [{NAMES[k] for k in np.flatnonzero(row) if draw.random() < 0.4} for row in codes]


def by_sorting(values: Floats, count: int) -> list[int]:
    order = np.argsort(-values, kind="stable")[:count]
    return [k for k in order.tolist() if values[k] > 0]


def test_sparse_codes_hold_the_same(codes: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_ROWS_PER_BLOCK", 64)  # ten parts, the last one shorter
    found = sparse_codes(codes)
    assert found.has_sorted_indices
    assert found.nnz == np.count_nonzero(codes)
    np.testing.assert_array_equal(found.toarray(), codes)
    np.testing.assert_array_equal(norms(codes), np.linalg.norm(codes, axis=1))
    assert sparse_codes(codes[:0]).shape == (0, CONCEPTS)


@pytest.mark.parametrize("count", [1, 4, IMAGES])
def test_the_strongest_come_first_and_equal_ones_in_order(codes: Floats, count: int) -> None:
    found = sparse_codes(codes)
    of_concepts = strongest(found.tocsc(), count)
    assert [x.tolist() for x in of_concepts] == [by_sorting(column, count) for column in codes.T]
    assert of_concepts[3].tolist() == []
    of_images = strongest(found, count)
    assert [x.tolist() for x in of_images] == [by_sorting(row, count) for row in codes]


def test_hubs_are_those_of_dense_codes(codes: Floats, image_words: list[set[str]]) -> None:
    occurs = np.zeros(codes.shape, dtype=bool)
    for i, row in enumerate(codes):
        occurs[i, by_sorting(row, STRONGEST_CONCEPTS)] = True
    often = occurs.sum(axis=0)
    expected = []
    for k in np.flatnonzero(often > often.mean() + HUB_DEVIATIONS * often.std()).tolist():
        described = [NAMES[k] in image_words[i] for i in np.flatnonzero(occurs[:, k])]
        if np.mean(described) < HUB_BORNE_OUT:
            expected.append(k)
    found = find_hubs(sparse_codes(codes), image_words, [[name] for name in NAMES])
    assert np.flatnonzero(found).tolist() == expected == [4]


def test_trials_are_those_of_dense_codes(codes: Floats, image_words: list[set[str]]) -> None:
    scores = np.linspace(0, 1, CONCEPTS).astype(np.float32)  # concept 0 has no name

    def fit(images: object) -> BestWords:
        return BestWords(np.arange(CONCEPTS), scores)

    found = calibrate(sparse_codes(codes), image_words, NAMES, fit)
    assert found is not None
    fold = np.random.default_rng(0).integers(0, FOLDS, IMAGES)
    expected, hits = [], []
    for number in range(FOLDS):
        rows = np.flatnonzero(fold == number)
        for k in range(1, CONCEPTS):
            top = rows[by_sorting(codes[rows, k], STRONGEST_IMAGES)]
            if len(top):
                expected.append(scores[k])
                hits.append(any(NAMES[k] in image_words[i] for i in top))
    assert found.scores.tolist() == sorted(expected)
    assert found.mean == np.mean(hits)
    assert 0.2 < found.mean < 0.95
    assert found.random < found.mean
