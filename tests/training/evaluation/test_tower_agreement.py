"""Agreement of the towers: against all pairs one by one, and on planted concepts."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation import tower_agreement as room
from training.evaluation.clarity import JudgedImages
from training.evaluation.metrics import Floats, unit
from training.evaluation.tower_agreement import cross_cosine, tower_agreement

DRAW = np.random.default_rng(0)


def judged(things: list[int], vectors: Floats | None = None) -> JudgedImages:
    if vectors is None:
        vectors = DRAW.standard_normal((len(things), 6))
    return JudgedImages(
        judge="dice", embeddings=unit(vectors.astype(np.float32)), things=np.array(things)
    )


def test_the_closed_form_is_the_mean_over_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CONCEPTS_PER_BLOCK", 4)  # nine concepts, in three parts
    images, texts = judged([3, 0, 1, 1, 2, 0, 3, 7]), judged([0, 1, 2, 3, 5])
    a = np.maximum(DRAW.standard_normal((8, 9)), 0).astype(np.float32)
    b = np.maximum(DRAW.standard_normal((5, 9)), 0).astype(np.float32)
    a[:, 2] = 0  # no image
    a[:, 3], b[:, 3] = np.eye(8)[0], np.eye(5)[3]  # one image and its own text alone
    expected = []
    for k in range(9):
        cosines = pairs = 0.0
        for i in range(8):
            for j in range(5):
                if images.things[i] != texts.things[j]:
                    weight = a[i, k] * b[j, k]
                    cosines += weight * float(images.embeddings[i] @ texts.embeddings[j])
                    pairs += weight
        expected.append(cosines / pairs if pairs else float("nan"))
    found = cross_cosine(a, b, images, texts)
    assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert np.isnan(found).tolist() == [k in (2, 3) for k in range(9)]


def test_towers_that_mean_the_same_agree_and_others_do_not() -> None:
    """Things come in 20 kinds, and a concept stands for a kind."""
    kind = np.arange(200) % 20
    vectors = np.eye(20)[kind] + 0.02 * DRAW.standard_normal((200, 20))
    images = texts = judged(list(range(200)), vectors)
    codes = np.eye(20, dtype=np.float32)[kind]
    same = tower_agreement(codes, codes, images, texts)
    assert same is not None
    assert (same.concepts, same.judge) == (20, "dice")
    assert same.agreement > 0.95
    assert same.agreement_random < 0.2
    # Each concept is another kind to the text tower: modality would not tell.
    apart = tower_agreement(codes, np.roll(codes, 1, axis=1), images, texts)
    assert apart is not None
    assert apart.agreement < 0.1


def test_without_a_pair_there_is_no_figure() -> None:
    codes = np.eye(3, dtype=np.float32)
    assert tower_agreement(codes, codes, judged([0, 1, 2]), judged([0, 1, 2])) is None
