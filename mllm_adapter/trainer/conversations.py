"""Conversations as training batches. B rows, T tokens, P patches, H LLM width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mllm_adapter.data.instructions import QuestionAnswer
from mllm_adapter.model.prompt import PromptBuilder, PromptMessage

IGNORED = -100
"""The label of a token that is not learned: all but the answers and what ends them."""


class TokenizedConversation(NamedTuple):
    """One conversation."""

    ids: list[int]
    labels: list[int]
    place: int
    """Where the image's visual tokens begin."""


class TokenBatch(NamedTuple):
    """Conversations padded on the right to the longest."""

    ids: Int[Tensor, "B T"]
    labels: Int[Tensor, "B T"]
    mask: Int[Tensor, "B T"]
    places: Int[Tensor, " B"]

    @property
    def learned(self) -> int:
        """Tokens that have a label."""
        return int((self.labels[:, 1:] != IGNORED).sum())

    def embedded(
        self, words: Float[Tensor, "B T H"], visual: Float[Tensor, "B P1 H"]
    ) -> Float[Tensor, "B T H"]:
        """Embeddings of the token ids, with each image's visual tokens in their places."""
        at = self.places[:, None] + torch.arange(visual.shape[1], device=words.device)
        return words.scatter(1, at[:, :, None].expand_as(visual), visual.to(words.dtype))


def encode(turns: Sequence[QuestionAnswer], build: PromptBuilder) -> TokenizedConversation:
    """A conversation about one image: what the model reads when it is asked, and the answers."""
    messages: list[PromptMessage] = []
    ids: list[int] = []
    labels: list[int] = []
    place = 0
    for i, turn in enumerate(turns):
        messages.append(PromptMessage(role="user", text=turn.question, images=int(i == 0)))
        prompt = build(messages)
        answer = [*build.text(turn.answer), build.tokenizer.eos_token_id]
        labels += [IGNORED] * (len(prompt.ids) - len(labels)) + answer
        ids, place = prompt.ids + answer, prompt.places[0]
        messages.append(PromptMessage(role="assistant", text=turn.answer))
    return TokenizedConversation(ids, labels, place)


def collate(rows: Sequence[TokenizedConversation]) -> TokenBatch:
    """Rows of different lengths as one batch."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    labels = torch.full_like(ids, IGNORED)
    mask = torch.zeros_like(ids)
    for b, row in enumerate(rows):
        ids[b, : len(row.ids)] = torch.tensor(row.ids)
        labels[b, : len(row.ids)] = torch.tensor(row.labels)
        mask[b, : len(row.ids)] = 1
    return TokenBatch(ids, labels, mask, torch.tensor([row.place for row in rows]))
