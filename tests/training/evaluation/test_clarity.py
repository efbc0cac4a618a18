"""Clarity and Monosemanticity Score: against all pairs one by one, and on planted concepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from training.evaluation import clarity as room
from training.evaluation.clarity import (
    JudgedImages,
    concept_clarity,
    fired,
    judge_images,
    mean_cosine,
    measure_clarity,
    min_max,
)
from training.evaluation.metrics import Floats, unit

DRAW = np.random.default_rng(0)


def judged(images: int, things: Sequence[int], width: int = 5) -> JudgedImages:
    """Images with random embeddings."""
    vectors = unit(DRAW.standard_normal((images, width)).astype(np.float32))
    return JudgedImages(judge="dice", embeddings=vectors, things=np.array(things))


def by_pairs(weights: Floats, images: JudgedImages) -> list[float]:
    """The definition, a pair at a time."""
    result = []
    for w in weights.T:
        cosines = pairs = 0.0
        for i in range(len(w)):
            for j in range(len(w)):
                if images.things[i] != images.things[j]:
                    cosines += w[i] * w[j] * float(images.embeddings[i] @ images.embeddings[j])
                    pairs += w[i] * w[j]
        result.append(cosines / pairs if pairs else float("nan"))
    return result


def test_the_closed_form_is_the_mean_over_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CONCEPTS_PER_BLOCK", 4)  # nine concepts, in three parts
    images = judged(12, [3, 0, 1, 1, 2, 0, 3, 3, 4, 5, 0, 2])
    codes = np.maximum(DRAW.standard_normal((12, 9)), 0).astype(np.float32)
    for weights in (fired(codes), min_max(codes)):
        assert mean_cosine(weights, images) == pytest.approx(by_pairs(weights, images), abs=1e-6)


def test_with_things_all_different_it_is_the_formula_of_the_literature() -> None:
    images = judged(8, range(8))
    codes = np.maximum(DRAW.standard_normal((8, 6)), 0).astype(np.float32)
    for k, activations in enumerate(codes.T):
        mine = images.embeddings[activations > 0.001]
        n, total = len(mine), mine.sum(axis=0)
        clarity = (total @ total - n) / (n * (n - 1))
        assert concept_clarity(codes, images)[k] == pytest.approx(clarity, abs=1e-5)
        a = (activations - activations.min()) / (activations.max() - activations.min())
        weighted = (a[:, None] * images.embeddings).sum(axis=0)
        squares = (a**2).sum()
        score = (weighted @ weighted - squares) / (a.sum() ** 2 - squares)
        assert mean_cosine(min_max(codes), images)[k] == pytest.approx(score, abs=1e-5)


def test_drawings_of_one_thing_prove_nothing() -> None:
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0.6, 0.8]], dtype=np.float32)
    images = JudgedImages(judge="", embeddings=vectors, things=np.array([0, 0, 0, 1]))
    codes = np.array(
        [[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 2, 0]], dtype=np.float32
    )  # three drawings of one thing; two of it and another; one image; none
    clarity = concept_clarity(codes, images)
    assert clarity[1] == pytest.approx(0.6)
    assert np.isnan(clarity[[0, 2, 3]]).all()
    found = measure_clarity(np.repeat(codes[:, 1:2], 20, axis=1), images)
    assert found is not None
    assert found.concepts <= 20
    assert found.clarity == found.clarity_random == pytest.approx(0.6)
    assert measure_clarity(codes[:, [0, 2, 3]], images) is None


def test_a_code_above_zero_fires_as_in_every_other_figure() -> None:
    assert fired(np.array([[1e-6, 0.5, 0]], dtype=np.float32)).tolist() == [[1, 1, 0]]


def meta(caption: str, group: str | None) -> dict[str, Any]:
    return {"caption": caption, "group": group}


class Kinds:
    """Judges by the last word of a caption; counts what it is shown."""

    name = "kinds"

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Floats:
        self.shown += texts
        kinds = ["cat", "dog", "boat"]
        return np.eye(3, dtype=np.float32)[[kinds.index(text.split()[-1]) for text in texts]]


def test_a_thing_is_a_group_or_a_caption() -> None:
    metas = [
        meta("a cat", "cat face"),
        meta("big cat", "cat face"),
        meta("a cat", "cat face"),
        meta("a dog", None),
        meta("A dog", None),
        meta("a boat", "boat"),
        meta("a boat", "other boat"),  # no data of ours has it: the caption decides
    ]
    judge = Kinds()
    images = judge_images(metas, judge)
    assert sorted(judge.shown) == sorted({m["caption"] for m in metas})
    things = images.things.tolist()
    assert things[0] == things[1] == things[2]
    assert things[3] == things[4]
    assert things[5] == things[6]
    assert len(set(things)) == 3
    assert images.embeddings.argmax(axis=1).tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_planted_concepts_beat_random_sets_of_their_size() -> None:
    kinds = ["cat", "dog", "boat"]
    metas = [meta(f"{i} {kinds[i % 3]}", f"{i}") for i in range(300)]
    images = judge_images(metas, Kinds())
    codes = np.zeros((300, 40), dtype=np.float32)
    for k in range(30):  # each fires on some of one kind, four of them on a mixture
        of = range(k % 3, 300, 3) if k < 26 else range(300)
        codes[DRAW.choice(of, size=20, replace=False), k] = DRAW.uniform(0.5, 2, size=20)
    found = measure_clarity(codes, images)
    assert found is not None
    assert (found.judge, found.concepts) == ("kinds", 30)
    # A third of all pairs are of one kind.
    assert found.clarity_random == pytest.approx(1 / 3, abs=0.02)
    assert found.monosemanticity_random == pytest.approx(1 / 3, abs=0.02)
    assert found.clarity == pytest.approx((26 + 4 / 3) / 30, abs=0.02)
    assert found.monosemanticity == pytest.approx((26 + 4 / 3) / 30, abs=0.02)
    assert measure_clarity(codes, images) == found, "the deal is not the same each time"
