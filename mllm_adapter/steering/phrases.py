"""Words to concepts: what a caller edits is a word, what the model has is tens of concepts.

A text tower's strongest concepts of a word are its directions in the image. At small scale one or
two of them are not enough, so a word is edited through its top K, in the proportions that the text
tower gives them (docs/chat.md has what that is worth).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mllm_adapter.steering.plan import EditOp, SteeringEdit, SteeringError

DEFAULT_TOP = 32
"""Concepts of a word."""
DEFAULT_STRENGTH = 2.0
"""What SET gives them where the caller names no value."""

_PRECEDENCE: tuple[EditOp, ...] = ("ABLATE", "SCALE", "ADD", "SET")
"""Where two words share a concept, the later of these decides."""


@dataclass(frozen=True, kw_only=True)
class WordEdit:
    """An edit of a word or phrase, as a caller asks for it."""

    word: str
    op: EditOp
    value: float = DEFAULT_STRENGTH
    """Of SET and ADD: for its strongest concept; the others get less, as the text tower has it."""
    top: int = DEFAULT_TOP
    patches: tuple[int, ...] | None = None
    even: bool = False
    """SET and ADD give all of its concepts the same value, as the paper does."""


EncodeTexts = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to their codes (B, C)."""


def expand(
    edits: Sequence[WordEdit | SteeringEdit], encode: EncodeTexts
) -> tuple[SteeringEdit, ...]:
    """Edits of distinct concepts, for words and for concepts that are named themselves.

    A concept that is named itself is edited as it says. Raises SteeringError for a word without
    concepts.
    """
    words = [edit for edit in edits if isinstance(edit, WordEdit)]
    codes = encode([edit.word for edit in words]) if words else np.zeros((0, 0), np.float32)
    chosen: dict[int, SteeringEdit] = {}
    rows = dict(zip(map(id, words), codes, strict=True))
    for edit in sorted(words, key=lambda edit: _PRECEDENCE.index(edit.op)):
        row = rows[id(edit)]
        active = np.flatnonzero(row > 0)
        top = active[np.argsort(-row[active], kind="stable")[: edit.top]]
        if not len(top):
            raise SteeringError(f"{edit.word!r}: no concept answers to it")
        values = np.full(len(top), 0.0 if edit.op == "ABLATE" else edit.value)
        if edit.op in ("SET", "ADD") and not edit.even:
            values *= row[top] / row[top[0]]
        for concept, value in zip(top.tolist(), values.tolist(), strict=True):
            chosen[concept] = SteeringEdit(
                concept=concept, op=edit.op, value=value, patches=edit.patches
            )
    for single in edits:
        if isinstance(single, SteeringEdit):
            chosen[single.concept] = replace(single)
    return tuple(chosen[concept] for concept in sorted(chosen))
