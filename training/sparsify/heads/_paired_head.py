"""What heads share whose codes are compared with those of the other tower. B batch, D width."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.codes import ACTIVE_ABOVE
from training.sparsify.embeddings.head_data import HeadData
from training.sparsify.heads._tower_head import TowerHead
from training.sparsify.heads.base import CodeHead, HeadRecipe, TowerSide

MARGIN = 0.95
"""The share of `l0` to which training data are held. Held-out data may be denser."""

SCALE_SPEED = 10.0
"""How many times as fast as a weight the logarithm of the scale is learned. A run of some hundred
steps would else end where the scale began."""

CONTROL = 0.05
"""How far the shift moves after a step, in standard deviations of what the ReLU reads, where twice
as many concepts are active as may be."""


class PairedHead(CodeHead):
    """Heads whose codes are compared by cosine, with a logit scale of their own.

    The paper's only knob of sparsity is the cap of that scale (arXiv 2601.20075). It is kept; a
    shift, common to all concepts of a tower, holds the codes to the share that was asked for.

    Both towers have the same directions, and biases of their own. Directions for each would learn
    from each other what only the training images have.
    """

    def __init__(self, recipe: HeadRecipe) -> None:
        super().__init__(recipe)
        self.text.weight = self.image.weight
        start = min(recipe.scale_cap, 1 / 0.07)
        self.slow_scale = nn.Parameter(torch.tensor(math.log(start) / SCALE_SPEED))

    def begin(self, data: HeadData) -> None:
        """Random directions, the control of what is learned."""
        self._point(F.normalize(torch.randn_like(self.image.weight)), data)

    def learn(self, data: HeadData) -> None:
        """Half of the concepts begin as texts and half as images: their directions from the mean of
        their tower. Texts say what is told apart, images where images lie. Where there are too few
        of the one, there are more of the other, and random directions at last."""
        images, texts = (rows[torch.randperm(len(rows))] - rows.mean(0) for rows in data.sample)
        concepts = len(self.image.bias)
        half, rest = concepts // 2, concepts - concepts // 2
        random = torch.randn_like(self.image.weight)
        directions = [texts[:half], images[:rest], texts[half:], images[rest:], random]
        self._point(F.normalize(torch.cat(directions)[:concepts]), data)

    def _point(self, directions: Float[Tensor, "C D"], data: HeadData) -> None:
        """Sets the directions, and the biases by which every concept is active on the same share
        of rows."""
        with torch.no_grad():
            self.image.weight.copy_(directions)
        for tower, x in zip((self.image, self.text), data.sample, strict=True):
            tower.fit_biases(x, MARGIN * self.recipe.l0)

    def codes(self, x: Float[Tensor, "B D"], side: TowerSide) -> Float[Tensor, "B C"]:
        """The codes of a step; moves the shift of the tower."""
        tower = self.tower(side)
        before = tower.before(x)
        if self.training:
            self._control(tower, before.detach())
        return before.relu()

    @torch.no_grad()
    def _control(self, tower: TowerHead, before: Float[Tensor, "B C"]) -> None:
        share = (before > ACTIVE_ABOVE).float().mean()
        excess = (share / (MARGIN * self.recipe.l0) - 1).clamp(-1, 1)
        tower.shift += CONTROL * excess * before.std()

    @torch.no_grad()
    def after_step(self) -> None:
        """Clamps the scale to its cap, as open_clip does."""
        self.slow_scale.clamp_(0, math.log(self.recipe.scale_cap) / SCALE_SPEED)

    @torch.no_grad()
    def finish(self, data: HeadData) -> None:
        """See CodeHead."""
        images, texts = data.sample
        images = data.mixed(images, self.recipe.mixing, np.random.default_rng(self.recipe.seed))
        for tower, x in ((self.image, images), (self.text, texts)):
            tower.bias.sub_(tower.shift)
            tower.fit_shift(x, MARGIN * self.recipe.l0)

    @property
    def scale(self) -> float:
        """See CodeHead."""
        return float(self.log_scale.detach().exp())

    @property
    def log_scale(self) -> Float[Tensor, ""]:
        """The logarithm of the scale, as it is learned."""
        return SCALE_SPEED * self.slow_scale
