"""The key/value cache of a batch that conversations join and leave.

B rows, T tokens of a prompt, W tokens of the longest row, N key/value heads, D head width, H LLM
width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from training.core.torchvision_compat import transformers


class BatchCache:
    """B conversations of different lengths, padded on the left to the longest.

    Every layer has keys and values (B, N, W, D). With `.` for padding, lengths 3, 5 and 2 lie as

        row 0   . . a b c        W = 5
        row 1   d e f g h
        row 2   . . . i j

    All rows end in the same column, so a decoding step appends one column for the whole batch. The
    attention mask hides the padding, and positions count from each row's own first token. So a
    row's logits do not depend on other rows, beyond float rounding.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache: Any = None  # a DynamicCache; None while no row is in the batch
        self.lengths: list[int] = []
        """The number of tokens in each row, without padding."""

    @torch.inference_mode()
    def join(self, prompt: Float[Tensor, "T H"]) -> Float[Tensor, " V"]:
        """Appends a prompt as the last row, and returns the logits of its first answer token."""
        # The prompt is read alone, into a cache of its own (1, N, T, D): no padding goes through
        # the model, and no row of the batch is computed again.
        # Without the configuration, layers with a sliding window keep all columns as well. Rows
        # of different lengths then have the same columns in every layer, and the mask alone keeps
        # a token from what is before its window.
        prompt_cache = transformers().DynamicCache()
        inputs = prompt[None].to(self._model.device, self._model.dtype)
        output = self._model(
            inputs_embeds=inputs, past_key_values=prompt_cache, use_cache=True, logits_to_keep=1
        )
        length = len(prompt)
        if self._cache is None:
            self._cache = prompt_cache
        else:
            # Both caches are padded on the left to the new W, and stacked along the rows. With
            # T = 4 joining rows of W = 2:
            #
            #     row 0   . . a b      was (2, N, 2, D)
            #     row 1   . . . c
            #     row 2   d e f g      was (1, N, 4, D); together (3, N, 4, D)
            #
            # A key holds the rotary position that it was computed with. Padding moves a token to
            # another column and leaves its position as it was, so nothing is recomputed.
            width = max(*self.lengths, length)
            for batch, new in zip(self._cache.layers, prompt_cache.layers, strict=True):
                batch.keys = torch.cat([_fit(batch.keys, width), _fit(new.keys, width)])
                batch.values = torch.cat([_fit(batch.values, width), _fit(new.values, width)])
        self.lengths.append(length)
        logits: Tensor = output.logits[0, -1]
        return logits

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> Float[Tensor, "B V"]:
        """Appends one token to each row, and returns the logits of the next ones."""
        device = self._model.device
        lengths = torch.tensor(self.lengths, device=device)
        # The cache grows to W + 1 columns, the new token being the last. A row of length n occupies
        # the last n + 1 of them: columns W - n to W. Its new token has position n.
        width = max(self.lengths) + 1
        columns = torch.arange(width, device=device)
        output = self._model(
            input_ids=torch.tensor(tokens, device=device)[:, None],  # (B, 1)
            attention_mask=(columns >= width - 1 - lengths[:, None]).long(),  # (B, W + 1)
            position_ids=lengths[:, None],  # (B, 1)
            past_key_values=self._cache,
            use_cache=True,
        )
        self.lengths = [length + 1 for length in self.lengths]
        logits: Tensor = output.logits[:, -1]
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all other rows, and the columns that are then padding in every row."""
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
    """Pads the token axis with zeros on the left, or cuts it there, to `width`."""
    # F.pad takes (left, right) pairs from the last axis inwards: D stays as it is, then W. A
    # negative number cuts.
    return F.pad(states, (0, 0, width - states.shape[2], 0))
