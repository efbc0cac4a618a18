"""Vectors that a frozen module gave for rows of token ids, kept for the next time.

B batch, T tokens, E width of the vectors.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

KEPT_BYTES = 2**28
"""Bytes of the vectors that are kept; beyond them the oldest go."""

ROWS_PER_FORWARD = 256
"""Rows that pass through the module at a time."""


class VectorMemo:
    """Calls a module once for each distinct row, without gradients and in float32.

    A row's vector is the same in every batch, up to the rounding of sums. When a weight of the
    module changes, or moves to another device, all vectors are dropped.
    """

    def __init__(self, pad_id: int, kept_bytes: int = KEPT_BYTES) -> None:
        """`pad_id` fills rows after their end. The module may get rows with less of it."""
        self.pad_id, self.kept_bytes = pad_id, kept_bytes
        self._vectors: dict[bytes, Tensor] = {}
        self._weights: list[tuple[int, int]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> VectorMemo:
        """A copied module begins with an empty memo: its weights are about to change."""
        return VectorMemo(self.pad_id, self.kept_bytes)

    def __len__(self) -> int:
        return len(self._vectors)

    def __call__(self, module: nn.Module, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B E"]:
        """The vectors of rows, those that are kept and those that the module gives now."""
        weights = [(weight.data_ptr(), weight._version) for weight in module.parameters()]
        if weights != self._weights:
            self._vectors, self._weights = {}, weights
        keys = [row.tobytes() for row in tokens.cpu().numpy()]
        new = {key: i for i, key in enumerate(keys) if key not in self._vectors}
        fresh = dict(zip(new, self._computed(module, tokens, list(new.values())), strict=True))
        rows = [fresh[key] if key in fresh else self._vectors[key] for key in keys]
        self._vectors |= fresh
        width = rows[0].nbytes if rows else 0
        while len(self._vectors) * width > self.kept_bytes:
            del self._vectors[next(iter(self._vectors))]
        return torch.stack(rows)

    def _computed(self, module: nn.Module, tokens: Tensor, index: list[int]) -> list[Tensor]:
        vectors: dict[int, Tensor] = {}
        lengths = (tokens != self.pad_id).sum(dim=1).tolist()
        by_length = sorted(index, key=lengths.__getitem__)
        # No inference mode, whose tensors no later training step could use.
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(tokens.device.type, enabled=False),
        ):
            for start in range(0, len(index), ROWS_PER_FORWARD):
                group = by_length[start : start + ROWS_PER_FORWARD]
                rows = tokens[group, : max(1, lengths[group[-1]])].clone()
                found = module(rows).float()
                vectors |= {i: vector.clone() for i, vector in zip(group, found, strict=True)}
        return [vectors[i] for i in index]
