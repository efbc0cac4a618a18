"""Scores of answers whose scores are known."""

from __future__ import annotations

import pytest

from mllm_adapter.evaluation.answerer import GeneratedAnswer
from mllm_adapter.evaluation.scores import score_answers, score_steering


def answers(*texts: str, ended: bool = True) -> list[GeneratedAnswer]:
    return [GeneratedAnswer(text, ended) for text in texts]


def test_steering_scores_on_answers_whose_scores_are_known() -> None:
    old, new = ["black cat"] * 5, ["red sports car"] * 5
    given = answers("red sports car", "sports car", "black car", "black cat", "red car black")
    score = score_steering(given, old, new, None)
    assert (score.exact, score.half, score.old, score.both) == (20, 60, 60, 40)
    assert score.corrupted == 0
    assert score_steering(answers("car " * 16), old[:1], new[:1], None).corrupted == 100
    assert score_steering(answers("car", ended=False), old[:1], new[:1], None).corrupted == 100


def test_of_a_part_the_rest_must_stay() -> None:
    old, new = ["woman cook"] * 3, ["woman singer"] * 3
    score = score_steering(
        answers("woman singer", "man singer", "woman cook"), old, new, None, part=True
    )
    assert score.both == pytest.approx(100 / 3)
    assert score.old == pytest.approx(100 / 3)


def test_answers_beside_labels() -> None:
    score = score_answers(answers("Red  Car", "cat", "dog"), ["red car", "cat face", "owl"], None)
    assert score.exact == pytest.approx(100 / 3)
    assert score.half == pytest.approx(200 / 3)
    assert score.cosine is None
