"""How heads are trained: the choices of `sparseclip sparsify`, and their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.sparsify.heads import HEADS

if TYPE_CHECKING:
    from training.sparsify.embeddings.head_data import HeadData
    from training.sparsify.heads.base import HeadRecipe

CONCEPTS_PER_DIMENSION = 8
"""C, where nobody names it, in units of D."""


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """How heads are trained."""

    concepts: int | None = None
    """C; None for CONCEPTS_PER_DIMENSION times D."""
    l0: float = 0.03
    steps: int = 800
    batch_size: int = 256
    texts: int = 256
    lr: float = 2e-3
    """Peak learning rate."""
    scale_cap: float = 100.0
    seed: int = 0

    def concepts_of(self, width: int) -> int:
        """C over embeddings of `width` numbers."""
        return self.concepts or CONCEPTS_PER_DIMENSION * width

    def recipe(self, head: str, width: int, teacher_scale: float, data: HeadData) -> HeadRecipe:
        """The recipe of one head."""
        from training.core.optimizer import OptimizerConfig
        from training.sparsify.heads.base import HeadRecipe

        concepts = self.concepts_of(width)
        kind = HEADS.load(head)
        if not kind.trains:  # its concepts are words
            concepts = min(concepts, len(data.vocabulary))
        return HeadRecipe(
            name=head,
            data=data.digest,
            width=width,
            concepts=concepts,
            l0=self.l0,
            steps=self.steps,
            batch_size=self.batch_size,
            texts=self.texts,
            mixing=kind.mixing,
            scale_cap=self.scale_cap,
            teacher_scale=teacher_scale,
            optimizer=OptimizerConfig(lr=self.lr, weight_decay=0.0, warmup=0.05),
            seed=self.seed,
            checkpoint_every=max(1, self.steps // 10),
        )
