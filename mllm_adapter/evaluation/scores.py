"""How answers compare with labels: by words, and by sentence embeddings. B texts, E their width."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mllm_adapter.evaluation.answerer import GeneratedAnswer

EmbedSentences = Callable[[Sequence[str]], NDArray[np.float32]]
"""Returns unit vectors (B, E) of texts, by a sentence encoder that is independent of the model."""

STOP_WORDS = frozenset(("a", "an", "and", "at", "for", "from", "in", "of", "on", "or", "the", "to"))

CORRUPTED_LENGTH = 3
"""An answer is corrupted when it has more than this many times the words of both labels together,
or when it does not end. The paper calls abnormally long answers corrupted."""


@dataclass(frozen=True, kw_only=True)
class SteeringScore:
    """Scores of one condition: percentages of its images, and mean cosines."""

    exact: float
    """The answer is the new label."""
    half: float
    """The answer has at least half of the new label's words."""
    old: float
    """The answer has a word of the old label that the new one does not have."""
    both: float
    """The new label appears and the old one is gone. Where the whole label was edited: the answer
    has half of the new label's words, no word of the old one, and is not corrupted. Where a part of
    the label was edited, it must have every word of the new label."""
    corrupted: float
    """The answer does not end, or is far too long."""
    nearer_new: float | None
    """The answer's sentence embedding is nearer the new label's than the old one's."""
    cosine_new: float | None
    cosine_old: float | None
    images: int


@dataclass(frozen=True, kw_only=True)
class AnswerScore:
    """Scores of the answers about a split's images, in percent."""

    exact: float
    """The answer is the label."""
    exact_error: float
    """The standard error of `exact`."""
    half: float
    """The answer has at least half of the label's words."""
    cosine: float | None
    """The mean cosine of the sentence embeddings of answer and label."""
    images: int


def words(text: str) -> frozenset[str]:
    """The words of a text, in lower case and without stop words."""
    return frozenset(re.findall(r"[^\W_]+", text.lower())) - STOP_WORDS


def overlaps(answer: str, label: str) -> bool:
    """Whether an answer has at least half of a label's words."""
    label_words = words(label)
    return bool(label_words) and 2 * len(words(answer) & label_words) >= len(label_words)


def same(answer: str, label: str) -> bool:
    """Whether an answer is a label, apart from case and spaces."""
    return answer.lower().split() == label.lower().split()


def score_answers(
    answers: Sequence[GeneratedAnswer], labels: Sequence[str], encode: EmbedSentences | None
) -> AnswerScore:
    """Compares answers with the labels that they should have been."""
    exact = np.array([same(a.text, label) for a, label in zip(answers, labels, strict=True)])
    half = [overlaps(a.text, label) for a, label in zip(answers, labels, strict=True)]
    cosine = None
    if encode is not None:
        cosine = float((encode([a.text for a in answers]) * encode(list(labels))).sum(1).mean())
    return AnswerScore(
        exact=_percent(exact),
        exact_error=float(100 * exact.std() / max(1, len(exact)) ** 0.5),
        half=_percent(half),
        cosine=cosine,
        images=len(answers),
    )


def score_steering(
    answers: Sequence[GeneratedAnswer],
    old: Sequence[str],
    new: Sequence[str],
    encode: EmbedSentences | None,
    part: bool = False,
) -> SteeringScore:
    """Compares the answers about images of the label `old` that were steered to `new`.

    With `part`, old and new labels share words and only the words that they do not share were
    edited, so the shared words do not count against an answer.
    """
    corrupted = [
        not a.ended or len(a.text.split()) > CORRUPTED_LENGTH * len(f"{before} {after}".split())
        for a, before, after in zip(answers, old, new, strict=True)
    ]
    half = [overlaps(a.text, label) for a, label in zip(answers, new, strict=True)]
    only_old = [words(before) - words(after) for before, after in zip(old, new, strict=True)]
    has_old = [bool(words(a.text) & lost) for a, lost in zip(answers, only_old, strict=True)]
    has_new = half
    if part:
        has_new = [
            bool(words(after)) and words(after) <= words(a.text)
            for a, after in zip(answers, new, strict=True)
        ]
    both = [
        appeared and not stayed and not broken
        for appeared, stayed, broken in zip(has_new, has_old, corrupted, strict=True)
    ]
    nearer_new = cosine_new = cosine_old = None
    if encode is not None:
        embedded = encode([a.text for a in answers])
        to_new = (embedded * encode(list(new))).sum(1)
        to_old = (embedded * encode(list(old))).sum(1)
        nearer_new = _percent(to_new > to_old)
        cosine_new, cosine_old = float(to_new.mean()), float(to_old.mean())
    return SteeringScore(
        exact=_percent([same(a.text, label) for a, label in zip(answers, new, strict=True)]),
        half=_percent(half),
        old=_percent(has_old),
        both=_percent(both),
        corrupted=_percent(corrupted),
        nearer_new=nearer_new,
        cosine_new=cosine_new,
        cosine_old=cosine_old,
        images=len(answers),
    )


def _percent(hits: Sequence[bool] | NDArray[np.bool_]) -> float:
    return float(100 * np.mean(hits)) if len(hits) else 0.0
