"""The map from unit embeddings to codes that every head exports. B batch, D width, C concepts."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bundle.codes import ACTIVE_ABOVE

STEEPNESS = 32.0
"""The slope by which a served code rises from zero at the threshold to its whole value, at 1.03
times the threshold. A jump would make an active concept of a rounding error."""


class TowerHead(nn.Module):
    """relu(W x + b - shift), of which `keep` strongest values may be kept, or those above a
    `threshold`."""

    shift: Tensor
    threshold: Tensor

    def __init__(self, width: int, concepts: int, keep: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(concepts, width))
        self.bias = nn.Parameter(torch.zeros(concepts))
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("threshold", torch.zeros(()))
        self.keep = keep

    def before(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """What the ReLU reads."""
        return nn.functional.linear(x, self.weight, self.bias - self.shift)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Unit embeddings to codes."""
        return self.activate(self.before(x))

    def activate(self, before: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """The ReLU, and what is kept of it."""
        codes = before.relu()
        if self.keep:
            values, indices = codes.topk(self.keep, dim=-1)
            return torch.zeros_like(codes).scatter_(-1, indices, values)
        if self.threshold > 0:
            above = codes - self.threshold
            return codes * (above > 0) if self.training else codes.minimum(STEEPNESS * above).relu()
        return codes

    @torch.no_grad()
    def share_active(self, x: Float[Tensor, "B D"]) -> float:
        """The share of concepts that are active, on the average of rows."""
        return float((self(x) > ACTIVE_ABOVE).float().mean())

    @torch.no_grad()
    def center(self, x: Float[Tensor, "B D"]) -> None:
        """Sets the biases so that the mean of the rows has the code zero before the ReLU."""
        self.bias.copy_(-(self.weight @ x.mean(0)))
        self.shift.zero_()

    @torch.no_grad()
    def fit_biases(self, x: Float[Tensor, "B D"], share: float) -> None:
        """Sets the biases so that every concept is active on this share of the rows."""
        self.bias.zero_()
        self.shift.zero_()
        kept = min(len(x) - 1, max(1, round(share * len(x))))
        for start in range(0, len(self.bias), _SLICE):
            rows = slice(start, start + _SLICE)
            values = self.weight[rows] @ x.T
            self.bias[rows] = -values.kthvalue(len(x) - kept, dim=1).values

    @torch.no_grad()
    def fit_shift(self, x: Float[Tensor, "B D"], share: float) -> None:
        """Sets the shift so that this share of all values of the rows is active."""
        self.shift.zero_()
        before = self.before(x).flatten()
        kept = max(1, int(share * len(before)))
        lowest = before.topk(kept, sorted=True).values[-1]
        self.shift.copy_(lowest)

    @torch.no_grad()
    def fit_threshold(self, x: Float[Tensor, "B D"], share: float) -> None:
        """Sets the threshold above which this share of all values of the rows is."""
        self.threshold.zero_()
        codes = self(x).flatten()
        self.threshold.copy_(codes.topk(int(share * len(codes)) + 1).values[-1])


_SLICE = 512
"""Concepts whose values on all rows exist at a time."""
