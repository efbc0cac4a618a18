"""Text codes of phrases, each encoded once, and the paper's edit from one label to another.

B texts, C concepts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.codes import SparseCodes
from mllm_adapter.steering.phrases import EncodeTexts, WordEdit, expand
from mllm_adapter.steering.plan import SteeringPlan

SUPPRESSED_CONCEPTS = 32
"""How many of the old label's strongest concepts are set to 0."""
TEXTS_PER_RUN = 1024


class TextCodes:
    """A cache of text codes, so that building many plans runs the text tower once per phrase."""

    def __init__(self, encode: EncodeTexts, concepts: int) -> None:
        self._encode, self._concepts = encode, concepts
        self._rows: dict[str, tuple[NDArray[np.uint32], NDArray[np.float32]]] = {}

    def add(self, phrases: Iterable[str]) -> None:
        """Encodes the phrases that are not cached yet."""
        new = sorted({phrase for phrase in phrases if phrase not in self._rows})
        for start in range(0, len(new), TEXTS_PER_RUN):
            part = new[start : start + TEXTS_PER_RUN]
            codes = SparseCodes.from_dense(self._encode(part))
            self._rows.update((phrase, codes.row(b)) for b, phrase in enumerate(part))

    def encode(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """The codes of phrases, (B, C)."""
        self.add(phrases)
        codes = np.zeros((len(phrases), self._concepts), dtype=np.float32)
        for row, phrase in enumerate(phrases):
            indices, values = self._rows[phrase]
            codes[row, indices] = values
        return codes

    def has_concepts(self, phrase: str) -> bool:
        """Whether any concept fires on a phrase."""
        self.add([phrase])
        return len(self._rows[phrase][0]) > 0

    def swap(
        self, old: str, new: str, top: int, strength: float, *, even: bool = False
    ) -> SteeringPlan:
        """The paper's edit (arXiv 2601.20075, section 5): the old label's concepts are set to 0 and
        the new label's top concepts to `strength`, in proportion unless `even`."""
        edits = [
            WordEdit(word=new, op="SET", value=strength, top=top, even=even),
            WordEdit(word=old, op="ABLATE", top=SUPPRESSED_CONCEPTS),
        ]
        return SteeringPlan(edits=expand(edits, self.encode))
