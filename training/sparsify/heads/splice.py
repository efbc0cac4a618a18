"""Embeddings as sums of words: nothing is trained. B batch, D width, C words."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from bundle.codes import ACTIVE_ABOVE
from training.sparsify.embeddings.head_data import HeadBatch, HeadData
from training.sparsify.heads._tower_head import TowerHead
from training.sparsify.heads.base import CodeHead, HeadRecipe, TowerSide

ITERATIONS = 200
HALVINGS = 12
FITTED_ON = 512
"""Rows by which the penalty is chosen."""


class LassoTower(TowerHead):
    """The non-negative lasso of a centred embedding over the rows of `weight`, by FISTA (Beck and
    Teboulle 2009): argmin over w >= 0 of |x - w A|^2 / 2 + penalty * sum(w)."""

    mean: Tensor
    penalty: Tensor

    def __init__(self, width: int, concepts: int) -> None:
        super().__init__(width, concepts)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("penalty", torch.zeros(()))

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Unit embeddings to codes."""
        return self.solve(F.normalize(x - self.mean), self.penalty)

    @torch.no_grad()
    def solve(self, x: Float[Tensor, "B D"], penalty: Tensor) -> Float[Tensor, "B C"]:
        """The lasso's weights, of which those that are nearly zero are zero."""
        words = self.weight
        step = 1 / float(torch.linalg.matrix_norm(words, 2)) ** 2
        codes = ahead = x.new_zeros(len(x), len(words))
        momentum = 1.0
        for _ in range(ITERATIONS):
            gradient = (ahead @ words - x) @ words.T + penalty
            new = (ahead - step * gradient).relu()
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = new + (momentum - 1) / following * (new - codes)
            codes, momentum = new, following
        return codes

    @torch.no_grad()
    def fit_penalty(self, x: Float[Tensor, "B D"], share: float) -> None:
        """The lowest penalty by which at most this share of all weights is above zero."""
        rows = F.normalize(x[:: max(1, len(x) // FITTED_ON)] - self.mean)
        low, high = torch.tensor(0.0), torch.tensor(1.0)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            active = (self.solve(rows, middle) > ACTIVE_ABOVE).float().mean()
            low, high = (middle, high) if active > share else (low, middle)
        self.penalty.copy_(high)


class SpliceHead(CodeHead):
    """SpLiCE (Bhalla et al. 2024, arXiv 2402.10376): concept k is the k-th word of the vocabulary.

    Images and texts have means of their own, as in the paper. It is measured only: a lasso is
    solved anew for each image, which no graph of a bundle does.
    """

    needs_captions: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    exports: ClassVar[bool] = False
    reconstructs: ClassVar[bool] = True

    def __init__(self, recipe: HeadRecipe) -> None:
        super().__init__(recipe)
        self.image: LassoTower = LassoTower(recipe.width, recipe.concepts)
        self.text: LassoTower = LassoTower(recipe.width, recipe.concepts)
        self.requires_grad_(False)

    def begin(self, data: HeadData) -> None:
        """Random directions, which are the control of the words."""
        directions = F.normalize(torch.randn_like(self.image.weight))
        for tower, x in zip((self.image, self.text), data.sample, strict=True):
            tower.weight.copy_(directions)
            tower.mean.copy_(x.mean(0))

    def loss(self, batch: HeadBatch) -> Float[Tensor, ""]:
        """See CodeHead."""
        raise NotImplementedError("nothing is trained")

    def learn(self, data: HeadData) -> None:
        """The words of the vocabulary take the place of random directions."""
        words = data.texts[data.vocabulary[: self.recipe.concepts]]
        for tower in (self.image, self.text):
            tower.weight.copy_(F.normalize(words - words.mean(0)))

    @torch.no_grad()
    def finish(self, data: HeadData) -> None:
        """See CodeHead."""
        for tower, x in zip((self.image, self.text), data.sample, strict=True):
            tower.fit_penalty(x, self.recipe.l0)

    def reconstruct(self, codes: Float[Tensor, "B C"], side: TowerSide) -> Float[Tensor, "B D"]:
        """See CodeHead."""
        tower = self.image if side == "image" else self.text
        return F.normalize(codes @ tower.weight) + tower.mean
