"""A sparse autoencoder whose first concepts suffice for themselves. B batch, C concepts."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from training.sparsify.heads.batch_topk_sae import BatchTopKHead

PREFIXES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
"""Shares of C. The first concepts of each share alone make the embeddings again."""


class MatryoshkaHead(BatchTopKHead):
    """Bussmann et al. 2025, "Learning Multi-Level Features with Matryoshka Sparse Autoencoders",
    arXiv 2503.17547: BatchTopK, and the error is the mean over nested dictionaries."""

    def error(self, codes: Float[Tensor, "B C"], x: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        """See AutoencoderHead."""
        ends = [max(1, round(share * codes.shape[1])) for share in PREFIXES]
        errors, again = [], torch.zeros_like(x)
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            again = again + codes[:, start:end] @ self.decoder[start:end]
            errors.append((again - x).square().sum(1).mean())
        return torch.stack(errors).mean()
