"""Patch codes to visual tokens. B batch, P patches, C concepts, K active of a row, H LLM width.

LLaVA-1.5's `mlp2x_gelu` (arXiv 2310.03744), whose first layer reads codes. That layer is linear in
them, so a row costs K * H where only its active concepts are summed, and an edit of k concepts
changes the sum by k rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from mllm_adapter.steering.plan import SteeringBatch, edited_activations

DENSE_MATMUL_DENSITY = 0.25
"""The density of codes from which one matrix product beats a sum over rows; measured in
benchmarks/steering.py."""


class PatchCodes(NamedTuple):
    """Codes of patches in TopK slots, as a bundle's graph gives them."""

    indices: Int[Tensor, "B P K"]
    values: Float[Tensor, "B P K"]
    """0 in unused slots."""

    def dense(self, concepts: int) -> Float[Tensor, "B P C"]:
        """The same codes in full width."""
        full = self.values.new_zeros(*self.values.shape[:2], concepts)
        return full.scatter_add_(2, self.indices, self.values)

    @classmethod
    def from_arrays(cls, indices: NDArray[np.int64], values: NDArray[np.float32]) -> PatchCodes:
        """One image's codes, (P, K) as the serving side has them; copied."""
        return cls(torch.tensor(indices)[None], torch.tensor(values)[None]).trimmed()

    @classmethod
    def from_dense(cls, dense: Float[Tensor, "B P C"]) -> PatchCodes:
        """Codes of full width in as few slots as hold them all, strongest first."""
        slots = max(1, int((dense > 0).sum(-1).max()))
        values, indices = dense.topk(slots, dim=-1)
        return cls(indices, values)

    def trimmed(self) -> PatchCodes:
        """Without the slots that no patch uses."""
        used = (self.values > 0).any(1).any(0)
        return PatchCodes(self.indices[:, :, used], self.values[:, :, used])

    def activations(
        self, row: Int[Tensor, " E"], concept: Int[Tensor, " E"]
    ) -> Float[Tensor, "E P"]:
        """Activations of chosen concepts on the patches of chosen rows."""
        alone = len(self.indices) == 1
        indices, values = (x if alone else x[row] for x in self)
        return (values * (indices == concept[:, None, None])).sum(-1)


class Projector(nn.Module):
    """codes (B, P, C) -> tokens (B, P1, H), P1 = 1 + P: the image as a whole, then its patches.

    Where codes are pooled over patches, what was trained contrastively is their mean. The first
    layer being linear, its output for the mean is the mean of its outputs, whatever was edited.
    """

    def __init__(self, concepts: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.empty(concepts, width))
        """The first layer's weight, one row a concept: (C, H)."""
        self.bias = nn.Parameter(torch.zeros(width))
        self.out = nn.Linear(width, width)
        nn.init.normal_(self.rows, std=0.02)

    @property
    def concepts(self) -> int:
        """C."""
        return self.rows.shape[0]

    def sums(self, codes: PatchCodes, dense: bool | None = None) -> Float[Tensor, "B P H"]:
        """The first layer's output without its bias: an image's part of it that can be kept.

        `dense` chooses between one product over C and a sum over active rows; None takes what is
        faster at this density.
        """
        batch, patches, slots = codes.indices.shape
        if dense is None:
            dense = slots > DENSE_MATMUL_DENSITY * self.concepts
        if dense:
            return codes.dense(self.concepts) @ self.rows
        flat = F.embedding_bag(
            codes.indices.reshape(-1, slots),
            self.rows,
            per_sample_weights=codes.values.reshape(-1, slots).to(self.rows.dtype),
            mode="sum",
        )
        return flat.view(batch, patches, -1)

    def steered(
        self, sums: Float[Tensor, "B P H"], codes: PatchCodes, batch: SteeringBatch
    ) -> Float[Tensor, "B P H"]:
        """`sums` of `codes` as they are after the edits: k rows for k edits, whatever C is."""
        if len(batch.row) == 0:
            return sums
        old = codes.activations(batch.row, batch.concept)
        change = (edited_activations(old, batch) - old).to(sums.dtype)
        rows = self.rows[batch.concept]
        if len(sums) == 1:
            return sums + change.T @ rows
        edits = torch.arange(len(change), device=sums.device)
        placed = sums.new_zeros(len(sums), *change.shape)
        placed[batch.row, edits] = change
        return sums + placed.transpose(1, 2) @ rows

    def tokens(self, sums: Float[Tensor, "B P H"]) -> Float[Tensor, "B P1 H"]:
        """The rest: bias, GELU and the second layer, for the mean over patches and each patch."""
        every = torch.cat([sums.mean(dim=1, keepdim=True), sums], dim=1)
        tokens: Tensor = self.out(F.gelu(every + self.bias))
        return tokens

    def forward(self, codes: Float[Tensor, "B P C"]) -> Float[Tensor, "B P1 H"]:
        """Codes of full width to visual tokens."""
        return self.tokens(codes @ self.rows)
