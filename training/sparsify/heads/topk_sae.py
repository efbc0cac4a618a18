"""A sparse autoencoder that keeps the K strongest concepts of each row. B batch, C concepts."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from training.sparsify.embeddings.head_data import HeadData
from training.sparsify.heads._autoencoder import AutoencoderHead
from training.sparsify.heads.base import TowerSide


class TopKHead(AutoencoderHead):
    """Gao et al. 2024, "Scaling and evaluating sparse autoencoders", arXiv 2406.04093."""

    def kept_of(self, before: Float[Tensor, "B C"], side: TowerSide) -> Float[Tensor, "B C"]:
        """See AutoencoderHead."""
        values, indices = before.topk(self.kept, dim=1)
        return torch.zeros_like(before).scatter(1, indices, values)

    @torch.no_grad()
    def finish(self, data: HeadData) -> None:
        """See CodeHead."""
        super().finish(data)
        self.image.keep = self.text.keep = self.kept
