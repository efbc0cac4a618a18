"""The key/value cache of a batch whose rows come and go. B rows, T tokens, H width, V words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from training.core.compat import transformers


class BatchCache:
    """B conversations of different lengths, padded on the left to the longest.

    The mask hides the padding and positions count from each row's own start, so that no row's
    logits depend on another row beyond float error.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache: Any = None
        self.lengths: list[int] = []
        """Tokens that are kept of each row."""

    @torch.inference_mode()
    def join(self, prompt: Float[Tensor, "T H"]) -> Float[Tensor, " V"]:
        """Reads a prompt as the last row of the batch, and gives the logits of its next token."""
        cache = transformers().DynamicCache(config=self._model.config)
        inputs = prompt[None].to(self._model.device, self._model.dtype)
        output = self._model(
            inputs_embeds=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        length = len(prompt)
        if self._cache is None:
            self._cache = cache
        else:
            width = max(*self.lengths, length)
            for mine, its in zip(self._cache.layers, cache.layers, strict=True):
                mine.keys = torch.cat([_fit(mine.keys, width), _fit(its.keys, width)])
                mine.values = torch.cat([_fit(mine.values, width), _fit(its.values, width)])
        self.lengths.append(length)
        logits: Tensor = output.logits[0, -1]
        return logits

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> Float[Tensor, "B V"]:
        """Reads one more token of each row, and gives the logits of the next ones."""
        device = self._model.device
        lengths = torch.tensor(self.lengths, device=device)
        width = max(self.lengths) + 1
        columns = torch.arange(width, device=device)
        output = self._model(
            input_ids=torch.tensor(tokens, device=device)[:, None],
            attention_mask=(columns >= width - 1 - lengths[:, None]).long(),
            position_ids=lengths[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        self.lengths = [length + 1 for length in self.lengths]
        logits: Tensor = output.logits[:, -1]
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all other rows, and the padding that only they wanted."""
        if len(rows) == len(self.lengths):
            return
        self.lengths = [self.lengths[row] for row in rows]
        if not rows:
            self._cache = None
            return
        index: Int[Tensor, " B"] = torch.tensor(rows, device=self._model.device)
        for layer in self._cache.layers:
            layer.keys = _fit(layer.keys[index], max(self.lengths))
            layer.values = _fit(layer.values[index], max(self.lengths))


def _fit(states: Float[Tensor, "B N W D"], width: int) -> Float[Tensor, "B N W2 D"]:
    """Cuts or pads the left side of the token axis."""
    return F.pad(states, (0, 0, width - states.shape[2], 0))
