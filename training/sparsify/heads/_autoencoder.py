"""Sparse autoencoders of embeddings: post-hoc baselines. B batch, D width, C concepts, K kept."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.codes import ACTIVE_ABOVE
from training.sparsify.embeddings.head_data import HeadBatch, HeadData
from training.sparsify.heads.base import SIDES, CodeHead, HeadRecipe, TowerSide

AUXILIARY = 1 / 32
"""Weight of the loss by which dead concepts learn what the others leave (Gao et al. 2024, A.2)."""

DEAD_AFTER = 20
"""Steps without firing after which a concept is dead."""


class AutoencoderHead(CodeHead):
    """x - mean is coded by the encoder and made again by the decoder, whose rows have unit length.

    Images and texts share one dictionary, so that their codes may be compared. Each has a mean of
    its own, which closes the gap between the two towers' embeddings. The encoder begins as the
    decoder transposed. What is served is the encoder, with the mean folded into its bias.

    The training of TopK SAEs (Gao et al., arXiv 2406.04093). overcomplete 0.3 has such autoencoders
    as well; it needs OpenCV and scikit-image, and saves pickles.
    """

    reconstructs: ClassVar[bool] = True
    image_mean: Tensor
    text_mean: Tensor
    quiet: Tensor
    """(C,): the steps since each concept fired."""

    def __init__(self, recipe: HeadRecipe) -> None:
        super().__init__(recipe)
        self.requires_grad_(False)  # of the two heads that are served: `finish` sets them
        self.encoder = nn.Parameter(torch.zeros(recipe.concepts, recipe.width))
        self.encoder_bias = nn.Parameter(torch.zeros(recipe.concepts))
        self.decoder = nn.Parameter(torch.zeros(recipe.concepts, recipe.width))
        for name in ("image_mean", "text_mean"):
            self.register_buffer(name, torch.zeros(recipe.width))
        self.register_buffer("quiet", torch.zeros(recipe.concepts))
        self.kept = max(1, int(recipe.l0 * recipe.concepts))
        """K of a row, on the average of rows or of each."""

    def begin(self, data: HeadData) -> None:
        """See CodeHead."""
        images, texts = data.sample
        self.image_mean.copy_(images.mean(0))
        self.text_mean.copy_(texts.mean(0))
        self.decoder.normal_()
        self.decoder.copy_(F.normalize(self.decoder))
        self.encoder.copy_(self.decoder)

    def mean(self, side: TowerSide) -> Float[Tensor, " D"]:
        """What is subtracted from the embeddings of a tower."""
        return self.image_mean if side == "image" else self.text_mean

    @abstractmethod
    def kept_of(self, before: Float[Tensor, "B C"], side: TowerSide) -> Float[Tensor, "B C"]:
        """The codes of a step: the strongest values of what the encoder gives."""

    def loss(self, batch: HeadBatch) -> Float[Tensor, ""]:
        """See CodeHead: the error of both towers' embeddings, in units of their variance."""
        errors: list[Tensor] = []
        fired = torch.zeros_like(self.quiet, dtype=torch.bool)
        for side, x in zip(SIDES, (batch.images, batch.texts), strict=True):
            centred = x - self.mean(side)
            before = F.linear(centred, self.encoder, self.encoder_bias)
            codes = self.kept_of(before.relu(), side)
            variance = centred.square().sum(1).mean()
            error = self.error(codes, centred) / variance
            errors.append(error + AUXILIARY * self._auxiliary(before, codes, centred) / variance)
            fired |= (codes.detach() > ACTIVE_ABOVE).any(0)
        self.quiet = torch.where(fired, 0.0, self.quiet + 1)
        return torch.stack(errors).mean()

    def error(self, codes: Float[Tensor, "B C"], x: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        """The squared error of what the codes make again."""
        return (codes @ self.decoder - x).square().sum(1).mean()

    def _auxiliary(self, before: Tensor, codes: Tensor, x: Tensor) -> Tensor:
        """The squared error of the strongest dead concepts on what is left of x."""
        dead = self.quiet >= DEAD_AFTER
        count = min(int(dead.sum()), self.recipe.width // 2)
        if count == 0:
            return before.new_zeros(())
        left = x - (codes @ self.decoder).detach()
        values, indices = before.masked_fill(~dead, -torch.inf).topk(count, dim=1)
        again = torch.zeros_like(before).scatter(1, indices, values.relu()) @ self.decoder
        return (again - left).square().sum(1).mean()

    @torch.no_grad()
    def after_step(self) -> None:
        """Keeps the decoder's rows at unit length, or codes would shrink as rows grow."""
        self.decoder.copy_(F.normalize(self.decoder))

    @torch.no_grad()
    def finish(self, data: HeadData) -> None:
        """See CodeHead."""
        for side in SIDES:
            tower = self.tower(side)
            tower.weight.copy_(self.encoder)
            tower.bias.copy_(self.encoder_bias - self.encoder @ self.mean(side))
            tower.shift.zero_()
            tower.threshold.zero_()

    def reconstruct(self, codes: Float[Tensor, "B C"], side: TowerSide) -> Float[Tensor, "B D"]:
        """See CodeHead."""
        return codes @ self.decoder + self.mean(side)
