"""What heads share whose codes are compared with those of the other tower. B batch, D width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.codes import ACTIVE_ABOVE
from training.sparsify.embeddings.head_data import HeadData
from training.sparsify.heads.base import SIDES, CodeHead, HeadRecipe, TowerSide

SCALE_SPEED = 10.0
"""How many times as fast as a weight the logarithm of the scale is learned. A run of some hundred
steps would else end where the scale began."""

CONTROL = 0.05
"""How far the shift or the threshold moves after a step, in standard deviations of what the ReLU
reads, where twice as many concepts are active as may be."""


class PairedHead(CodeHead):
    """Heads whose codes are compared by cosine, with a logit scale of their own.

    The paper's only knob of sparsity is the cap of that scale (arXiv 2601.20075). It is kept; a
    shift or a threshold, common to all concepts of a tower, holds the codes to the share that was
    asked for.

    Both towers have the same directions, and biases of their own. Directions for each would learn
    from each other what only the training images have.
    """

    margins: ClassVar[Mapping[TowerSide, float]] = {"image": 0.95, "text": 0.95}
    """The share of `l0` to which training data are held. Held-out data may be denser."""
    jumps: ClassVar[bool] = False
    """Whether codes keep the value that passes a threshold (a JumpReLU, arXiv 2407.14435), so that
    their cosines are near those of the embeddings. Else a shift is subtracted from it, which tells
    the concepts of a row apart."""

    def __init__(self, recipe: HeadRecipe) -> None:
        super().__init__(recipe)
        self.text.weight = self.image.weight
        start = min(recipe.scale_cap, 1 / 0.07)
        self.slow_scale = nn.Parameter(torch.tensor(math.log(start) / SCALE_SPEED))

    def begin(self, data: HeadData) -> None:
        """Random directions, the control of what is learned."""
        self.point(F.normalize(torch.randn_like(self.image.weight)), data)

    def point(self, directions: Float[Tensor, "C D"], data: HeadData) -> None:
        """Sets the directions, and the biases. Codes with a shift begin with every concept active
        on the same share of rows; those that jump, at their tower's mean."""
        with torch.no_grad():
            self.image.weight.copy_(directions)
        for side, x in zip(SIDES, data.sample, strict=True):
            tower, share = self.tower(side), self.share(side)
            if self.jumps:
                tower.center(x)
                tower.fit_threshold(x, share)
            else:
                tower.fit_biases(x, share)

    def codes(self, x: Float[Tensor, "B D"], side: TowerSide) -> Float[Tensor, "B C"]:
        """The codes of a step; moves the shift of the tower."""
        tower = self.tower(side)
        before = tower.before(x)
        if self.training:
            self._control(side, before.detach())
        return tower.activate(before)

    @torch.no_grad()
    def _control(self, side: TowerSide, before: Float[Tensor, "B C"]) -> None:
        tower = self.tower(side)
        lowest = tower.threshold if self.jumps else tower.shift
        share = (before > tower.threshold.clamp_min(ACTIVE_ABOVE)).float().mean()
        lowest += CONTROL * (share / self.share(side) - 1).clamp(-1, 1) * before.std()

    @torch.no_grad()
    def after_step(self) -> None:
        """Clamps the scale to its cap, as open_clip does."""
        self.slow_scale.clamp_(0, math.log(self.recipe.scale_cap) / SCALE_SPEED)

    @torch.no_grad()
    def finish(self, data: HeadData) -> None:
        """See CodeHead."""
        images, texts = data.sample
        images = data.mixed(images, self.recipe.mixing, np.random.default_rng(self.recipe.seed))
        for side, x in zip(SIDES, (images, texts), strict=True):
            tower, share = self.tower(side), self.share(side)
            if self.jumps:
                tower.fit_threshold(x, share)
            else:
                tower.bias.sub_(tower.shift)
                tower.fit_shift(x, share)

    def share(self, side: TowerSide) -> float:
        """The share of concepts that is active in training."""
        return self.margins[side] * self.recipe.l0

    @property
    def scale(self) -> float:
        """See CodeHead."""
        return float(self.log_scale.detach().exp())

    @property
    def log_scale(self) -> Float[Tensor, ""]:
        """The logarithm of the scale, as it is learned."""
        return SCALE_SPEED * self.slow_scale
