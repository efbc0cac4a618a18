"""Text codes of phrases, kept, and the paper's edit from one phrase to another. B texts, C
concepts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.codes import SparseCodes
from mllm_adapter.steering.phrases import EncodeTexts, WordEdit, expand
from mllm_adapter.steering.plan import SteeringPlan

SUPPRESSED_CONCEPTS = 32
"""Concepts of the old label that are set to 0, at least."""


class TextCodes:
    """Text codes of phrases, each encoded once, so that a plan costs no run of the text tower."""

    def __init__(self, encode: EncodeTexts, concepts: int) -> None:
        self._encode, self._concepts = encode, concepts
        self._rows: dict[str, tuple[NDArray[np.uint32], NDArray[np.float32]]] = {}

    def add(self, phrases: Iterable[str]) -> None:
        """Encodes those that are new."""
        new = sorted({phrase for phrase in phrases if phrase not in self._rows})
        for start in range(0, len(new), 1024):
            part = new[start : start + 1024]
            codes = SparseCodes.from_dense(self._encode(part))
            self._rows.update((phrase, codes.row(b)) for b, phrase in enumerate(part))

    def encode(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """Codes of phrases, (B, C)."""
        self.add(phrases)
        codes = np.zeros((len(phrases), self._concepts), dtype=np.float32)
        for row, phrase in enumerate(phrases):
            indices, values = self._rows[phrase]
            codes[row, indices] = values
        return codes

    def known(self, phrase: str) -> bool:
        """The text tower has concepts for it."""
        self.add([phrase])
        return len(self._rows[phrase][0]) > 0

    def swap(
        self, old: str, new: str, top: int, strength: float, *, even: bool = False
    ) -> SteeringPlan:
        """The paper's edit (arXiv 2601.20075, section 5): the old label's concepts to 0, the new
        label's to a strength; `even` gives each of them the same."""
        edits = [
            WordEdit(word=new, op="SET", value=strength, top=top, even=even),
            WordEdit(word=old, op="ABLATE", top=SUPPRESSED_CONCEPTS),
        ]
        return SteeringPlan(edits=expand(edits, self.encode))
