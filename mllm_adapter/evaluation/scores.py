"""How an answer compares with a label: words, and sentence embeddings. N answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mllm_adapter.evaluation.answerer import GeneratedAnswer

EmbedSentences = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to unit vectors (B, E), by an encoder that is not ours."""

STOP_WORDS = frozenset(("a", "an", "and", "at", "for", "from", "in", "of", "on", "or", "the", "to"))

TOO_LONG = 3
"""An answer of more than so many times the words of both labels is corrupted, and so is one that
does not end (the paper calls abnormally long answers corrupted)."""


@dataclass(frozen=True, kw_only=True)
class SteeringScore:
    """Percentages over the images of one condition, and mean cosines."""

    exact: float
    """The answer is the new label."""
    half: float
    """It has half of the new label's words."""
    old: float
    """It has a word of the old label."""
    both: float
    """The new one appears and the rest is kept: of a whole label, half of the new one's words, none
    of the old one's, and no corruption; of a part of one, every word of the new label."""
    corrupted: float
    """It does not end, or is far too long."""
    nearer_new: float | None
    """Its sentence embedding is nearer the new label's than the old one's."""
    cosine_new: float | None
    cosine_old: float | None
    images: int


@dataclass(frozen=True, kw_only=True)
class AnswerScore:
    """Percentages over the images of a split, standard errors beside them."""

    exact: float
    exact_error: float
    half: float
    cosine: float | None
    """Mean cosine of the answer's and the label's sentence embeddings."""
    images: int


def words(text: str) -> frozenset[str]:
    """The words of a text that say something."""
    return frozenset(re.findall(r"[^\W_]+", text.lower())) - STOP_WORDS


def overlaps(answer: str, label: str) -> bool:
    """The answer has half of the label's words."""
    wanted = words(label)
    return bool(wanted) and 2 * len(words(answer) & wanted) >= len(wanted)


def same(answer: str, label: str) -> bool:
    """The answer is the label, but for case and spaces."""
    return answer.lower().split() == label.lower().split()


def score_answers(
    answers: Sequence[GeneratedAnswer], labels: Sequence[str], encode: EmbedSentences | None
) -> AnswerScore:
    """Answers beside what they should have been."""
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
    """Answers of images of `old` that were steered to `new`.

    With `part` the labels share words, and only the others were edited: words of the old label that
    the new one has are the rest.
    """
    corrupted = [
        not a.ended or len(a.text.split()) > TOO_LONG * len(f"{was} {now}".split())
        for a, was, now in zip(answers, old, new, strict=True)
    ]
    half = [overlaps(a.text, label) for a, label in zip(answers, new, strict=True)]
    gone = [words(was) - words(now) for was, now in zip(old, new, strict=True)]
    rest = [bool(words(a.text) & lost) for a, lost in zip(answers, gone, strict=True)]
    shown = (
        [words(now) <= words(a.text) for a, now in zip(answers, new, strict=True)] if part else half
    )
    both = [h and not r and not c for h, r, c in zip(shown, rest, corrupted, strict=True)]
    nearer = to_new = to_old = None
    if encode is not None:
        said = encode([a.text for a in answers])
        new_cosine = (said * encode(list(new))).sum(1)
        old_cosine = (said * encode(list(old))).sum(1)
        nearer = _percent(new_cosine > old_cosine)
        to_new, to_old = float(new_cosine.mean()), float(old_cosine.mean())
    return SteeringScore(
        exact=_percent([same(a.text, label) for a, label in zip(answers, new, strict=True)]),
        half=_percent(half),
        old=_percent(rest),
        both=_percent(both),
        corrupted=_percent(corrupted),
        nearer_new=nearer,
        cosine_new=to_new,
        cosine_old=to_old,
        images=len(answers),
    )


def _percent(hits: Sequence[bool] | NDArray[np.bool_]) -> float:
    return float(100 * np.mean(hits)) if len(hits) else 0.0
