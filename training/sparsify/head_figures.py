"""The figures of a head beside those of its teacher. N images, C concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bundle.concepts import NamedConcept
from training.evaluation.clarity import Judge
from training.evaluation.evaluate import SplitFigures, evaluate_encoded
from training.evaluation.metrics import Floats
from training.sparsify.embeddings.embedding_cache import EmbeddedSplit, EmbeddingCache
from training.sparsify.head_encoder import (
    HeadEncoder,
    Representation,
    codes_by,
    dense_vectors,
    encoded,
    reconstruction_by,
)
from training.sparsify.heads.base import CodeHead

TRUSTED_FROM = 0.5
"""A name is trusted where trials bear out at least this share of names of its score."""


@dataclass(frozen=True, kw_only=True)
class NameFigures:
    """How far the names of concepts can be trusted."""

    concepts: int
    active: int
    """Concepts that fire on two or more training images."""
    named: int
    """Concepts that are shown with a name."""
    trusted: int
    """Concepts whose name has a confidence of TRUSTED_FROM or more."""
    mean_confidence: float | None
    """Over the concepts that have one. None with too few images to tell."""

    @classmethod
    def of(cls, concepts: Sequence[NamedConcept]) -> NameFigures:
        """The figures of a model's concepts."""
        known = [c.name_confidence for c in concepts if c.name_confidence is not None]
        return cls(
            concepts=len(concepts),
            active=sum(c.active for c in concepts),
            named=sum(c.is_named for c in concepts),
            trusted=sum(confidence >= TRUSTED_FROM for confidence in known),
            mean_confidence=sum(known) / len(known) if known else None,
        )


class RememberingJudge:
    """A judge that embeds each text once, as all heads are judged on the same captions."""

    def __init__(self, judge: Judge) -> None:
        self.name, self._judge = judge.name, judge
        self._known: dict[str, Floats] = {}

    def __call__(self, texts: Sequence[str]) -> Floats:
        """See Judge."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        if missing:
            self._known |= dict(zip(missing, self._judge(missing), strict=True))
        return np.stack([self._known[text] for text in texts])


class HeldOutFigures:
    """Measures representations on the held-out splits of a data set."""

    def __init__(
        self,
        cache: EmbeddingCache,
        data: str,
        splits: Sequence[EmbeddedSplit],
        judge: Judge | None,
    ) -> None:
        """`data` is the name of the data; without a judge clarity is not measured."""
        self._cache, self._data, self._splits = cache, data, splits
        self._judge = None if judge is None else RememberingJudge(judge)

    def dense(self) -> dict[str, Any]:
        """Zero-shot and retrieval of the teacher, by split."""
        figures = self._figures(dense_vectors, clarity=False)
        return {f.split: asdict(f.zero_shot) for f in figures}

    def head(self, head: CodeHead, untrained: CodeHead) -> dict[str, Any]:
        """All figures of a head by split, beside those of the head at its first step."""
        result = {f.split: _figures_of(f) for f in self._figures(codes_by(head))}
        for f in self._figures(codes_by(untrained)):
            result[f.split]["untrained"] = _figures_of(f)
        if head.reconstructs:
            for f in self._figures(reconstruction_by(head), clarity=False):
                result[f.split]["reconstructed"] = asdict(f.zero_shot)
        return result

    def _figures(self, represent: Representation, *, clarity: bool = True) -> list[SplitFigures]:
        encoder = HeadEncoder(name="head", embed_texts=self._cache.texts, represent=represent)
        judge = self._judge if clarity else None
        splits = (encoded(s, self._data, represent, held_out=True) for s in self._splits)
        return [evaluate_encoded(encoder, split, judge) for split in splits]


def _figures_of(figures: SplitFigures) -> dict[str, Any]:
    return {
        **asdict(figures.zero_shot),
        "image_sparsity": asdict(figures.image_sparsity),
        "text_sparsity": asdict(figures.text_sparsity),
        "clarity": None if figures.clarity is None else asdict(figures.clarity),
    }
