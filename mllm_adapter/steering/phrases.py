"""Words to concepts: callers edit words, while the model's units are tens of concepts per word.

The text tower's strongest concepts of a word are the word's directions in images. In a small model
one or two of them are not enough. So a word is edited through its top K concepts, in the
proportions that the text tower gives them. docs/chat.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mllm_adapter.steering.plan import EditOp, SteeringEdit, SteeringError

DEFAULT_TOP = 32
"""How many concepts a word becomes."""
DEFAULT_STRENGTH = 2.0
"""The value of SET where the caller gives none."""

_PRECEDENCE: tuple[EditOp, ...] = ("ABLATE", "SCALE", "ADD", "SET")
"""Where two words share a concept, the operation that is later in this list wins."""


@dataclass(frozen=True, kw_only=True)
class WordEdit:
    """An edit of a word or phrase, as a caller asks for it."""

    word: str
    op: EditOp
    value: float = DEFAULT_STRENGTH
    """For SET and ADD, the value of the strongest concept; the others get proportionally less."""
    top: int = DEFAULT_TOP
    patches: tuple[int, ...] | None = None
    even: bool = False
    """SET and ADD give every concept of the word the same value, as the paper does."""


EncodeTexts = Callable[[Sequence[str]], NDArray[np.float32]]
"""Returns the codes (B, C) of texts."""


def expand(
    edits: Sequence[WordEdit | SteeringEdit], encode: EncodeTexts
) -> tuple[SteeringEdit, ...]:
    """Replaces words by edits of their concepts; the result has each concept once.

    A SteeringEdit wins over every word that has the same concept. Raises SteeringError for a word
    on which no concept fires.
    """
    words = [edit for edit in edits if isinstance(edit, WordEdit)]
    codes = encode([edit.word for edit in words]) if words else np.zeros((0, 0), np.float32)
    by_precedence = sorted(
        zip(words, codes, strict=True), key=lambda pair: _PRECEDENCE.index(pair[0].op)
    )
    by_concept: dict[int, SteeringEdit] = {}
    for word, row in by_precedence:
        active = np.flatnonzero(row > 0)
        top = active[np.argsort(-row[active], kind="stable")[: word.top]]
        if not len(top):
            raise SteeringError(f"{word.word!r}: no concept answers to it")
        values = np.full(len(top), 0.0 if word.op == "ABLATE" else word.value)
        if word.op in ("SET", "ADD") and not word.even:
            values *= row[top] / row[top[0]]
        for concept, value in zip(top.tolist(), values.tolist(), strict=True):
            by_concept[concept] = SteeringEdit(
                concept=concept, op=word.op, value=value, patches=word.patches
            )
    for edit in edits:
        if isinstance(edit, SteeringEdit):
            by_concept[edit.concept] = edit
    return tuple(by_concept[concept] for concept in sorted(by_concept))
