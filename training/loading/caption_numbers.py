"""A number for each caption of a batch, equal for equal ones. b captions, T tokens."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

HASH_FACTOR = 0x5851F42D4C957F2D
"""The factor of Knuth's MMIX generator: odd, with bits all over its 64."""


def caption_numbers(tokens: Int[Tensor, "b T"]) -> Int[Tensor, " b"]:
    """A number for each row of tokens: a hash of 64 bits, so that equal rows have equal numbers on
    every rank without an exchange of tokens."""
    numbers = torch.full((len(tokens),), tokens.shape[1], dtype=torch.int64, device=tokens.device)
    for column in tokens.long().unbind(1):
        numbers = _mixed(numbers ^ column)
    return numbers


def joined_numbers(a: Int[Tensor, " b"], b: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
    """The number of two captions in one. `A and B` has that of `B and A`, which says the same, and
    another than either of both."""
    return _mixed(_mixed(a) + _mixed(b))


def _mixed(numbers: Tensor) -> Tensor:
    numbers = numbers * HASH_FACTOR
    return numbers ^ (numbers >> 29)  # integers wrap around, so high bits reach low ones
