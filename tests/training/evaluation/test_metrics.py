"""Figures of codes that were made up: ties, collapse, and numbers that are not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.evaluation.metrics import Floats, ZeroShot, sparsity, top_hits, zero_shot

IMAGES, LABELS, CONCEPTS = 60, 20, 32
LABEL = np.arange(IMAGES) % LABELS
GROUP = [str(label) for label in LABEL]


def codes(rows: int, seed: int) -> Floats:
    noise = np.random.default_rng(seed).standard_normal((rows, CONCEPTS))
    return np.maximum(noise, 0).astype(np.float32)


def score(image: Floats, text: Floats) -> ZeroShot:
    return zero_shot(image, text, LABEL, GROUP)


TEXT = codes(LABELS, 1)
FIGURES = ("top1", "top5", "text_to_image_1", "text_to_image_5")
OF_THREE_OWN = [100 * (1 - math.comb(57, k) / math.comb(60, k)) for k in (1, 5)]
"""A label has 3 of the 60 images: the chance that one of them is among k drawn images."""


@pytest.mark.parametrize(
    ("image", "text"),
    {
        "both zero": (np.zeros((IMAGES, CONCEPTS)), np.zeros((LABELS, CONCEPTS))),
        "images zero": (np.zeros((IMAGES, CONCEPTS)), TEXT),
        "texts zero": (codes(IMAGES, 2), np.zeros((LABELS, CONCEPTS))),
        "one code for all": (np.tile(TEXT[:1], (IMAGES, 1)), np.tile(TEXT[:1], (LABELS, 1))),
    }.values(),
    ids=["both zero", "images zero", "texts zero", "one code for all"],
)
def test_a_collapsed_model_scores_what_guessing_scores(image: Floats, text: Floats) -> None:
    figures = score(image.astype(np.float32), text.astype(np.float32))
    expected = [figures.chance, 5 * figures.chance, *OF_THREE_OWN]
    for name, chance in zip(FIGURES, expected, strict=True):
        assert getattr(figures, name).percent == pytest.approx(chance)


@pytest.mark.parametrize("collapsed", ["image", "text"])
def test_one_collapsed_tower_is_never_above_chance(collapsed: str) -> None:
    image, text = TEXT[LABEL], TEXT
    if collapsed == "image":
        image = np.tile(TEXT[:1], (IMAGES, 1))
    else:
        text = np.tile(TEXT[:1], (LABELS, 1))
    assert score(image, text).top1.percent == pytest.approx(100 / LABELS)


def test_a_code_that_is_not_finite_is_no_hit() -> None:
    image, text = TEXT[LABEL], TEXT.copy()
    assert score(image, text).top1.percent == 100
    assert score(np.full_like(image, np.nan), text).top5.percent == 0
    text[3] = np.nan  # all others still find theirs, behind the one that cannot be compared
    figures = score(image, text)
    assert figures.top1.percent == 0
    assert figures.top5.percent == pytest.approx(95)
    assert figures.text_to_image_1.percent == pytest.approx(95)


def test_ties_count_as_their_share() -> None:
    scores = np.array([[3, 2, 2, 2, 1], [3, 3, 1, 1, 1], [1, 1, 1, 1, 1]], dtype=np.float32)
    right = np.zeros(scores.shape, dtype=bool)
    right[0, 2] = right[1, 0] = right[2, [0, 4]] = True
    np.testing.assert_allclose(top_hits(scores, right, 1), [0, 1 / 2, 2 / 5])
    np.testing.assert_allclose(top_hits(scores, right, 2), [1 / 3, 1, 1 - 3 / 5 * 2 / 4])
    np.testing.assert_allclose(top_hits(scores, right, 5), [1, 1, 1])


def test_without_ties_a_hit_is_whole() -> None:
    scores = codes(40, 3)
    right = np.zeros(scores.shape, dtype=bool)
    right[np.arange(40), np.arange(40) % CONCEPTS] = True
    scores += np.random.default_rng(4).random(scores.shape, dtype=np.float32)
    own = scores[right][:, None]
    for k in (1, 5):
        assert top_hits(scores, right, k).tolist() == ((scores > own).sum(axis=1) < k).tolist()


def test_all_figures_count_a_concept_as_active_by_one_rule() -> None:
    tiny = np.zeros((4, 3), dtype=np.float32)
    tiny[:2, 0] = 1e-6  # above 0, and below the paper's 0.001
    tiny[0, 1] = 1.0
    figures = sparsity(tiny)
    assert figures.l0 == pytest.approx(3 / 4)
    assert figures.active == pytest.approx(100 / 3)
    assert figures.dead == pytest.approx(100 / 3)
