"""Padding in rows of token ids, as the libraries' own tokenizers mask it. B batch, T tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PaddingMask:
    """Which positions of a row of token ids are no padding, as the library's tokenizer says it."""

    pad_id: int
    left: bool
    """Whether the padding stands before the text."""
    ends_with_pad: bool
    """Whether the token that ends a text has the id of the padding, as in SigLIP."""

    def __call__(self, tokens: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """1 for tokens of the text, 0 for padding."""
        text = (tokens != self.pad_id).long()
        if self.left:
            return (text.cumsum(dim=1) > 0).long()
        seen = (text.flip(1).cumsum(dim=1).flip(1) > 0).long()
        if not self.ends_with_pad:
            return seen
        return torch.cat([torch.ones_like(seen[:, :1]), seen[:, :-1]], dim=1)
