"""A sparse autoencoder that keeps K concepts a row on average. B batch, C concepts."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from training.sparsify.embeddings.head_data import HeadData
from training.sparsify.heads._autoencoder import AutoencoderHead
from training.sparsify.heads.base import TowerSide


class BatchTopKHead(AutoencoderHead):
    """Bussmann et al. 2024, "BatchTopK Sparse Autoencoders", arXiv 2412.06410.

    What is served has no batch: it keeps the values above a threshold, which is set on training
    data so that K of a row are kept on average.
    """

    def kept_of(self, before: Float[Tensor, "B C"], side: TowerSide) -> Float[Tensor, "B C"]:
        """See AutoencoderHead."""
        flat = before.flatten()
        values, indices = flat.topk(self.kept * len(before), sorted=False)
        return torch.zeros_like(flat).scatter(0, indices, values).view_as(before)

    @torch.no_grad()
    def finish(self, data: HeadData) -> None:
        """See CodeHead."""
        super().finish(data)
        for tower, x in zip((self.image, self.text), data.sample, strict=True):
            tower.fit_threshold(x, self.recipe.l0)
