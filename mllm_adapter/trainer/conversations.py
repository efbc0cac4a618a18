"""Conversations as token batches with labels. B rows, T tokens, P1 visual tokens, H LLM width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mllm_adapter.data.instructions import QuestionAnswer
from mllm_adapter.model.prompt import PromptBuilder, PromptMessage

IGNORED = -100
"""The label of tokens that are not learned, which are all but the answers and their end tokens."""


class TokenizedConversation(NamedTuple):
    """One conversation about one image."""

    ids: list[int]
    labels: list[int]
    """One per token: its id where it is learned, else IGNORED."""
    image_position: int
    """The position of the image's first visual token in `ids`."""


class TokenBatch(NamedTuple):
    """Conversations padded on the right to the longest."""

    ids: Int[Tensor, "B T"]
    labels: Int[Tensor, "B T"]
    mask: Int[Tensor, "B T"]
    """1 for tokens, 0 for padding."""
    image_positions: Int[Tensor, " B"]

    @property
    def learned(self) -> int:
        """The number of tokens that are learned."""
        return int((self.labels[:, 1:] != IGNORED).sum())

    def embedded(
        self, text: Float[Tensor, "B T H"], visual: Float[Tensor, "B P1 H"]
    ) -> Float[Tensor, "B T H"]:
        """Puts each image's visual tokens into the embeddings of its token ids, `text`."""
        offsets = torch.arange(visual.shape[1], device=text.device)
        positions = self.image_positions[:, None] + offsets  # (B, P1)
        return text.scatter(1, positions[:, :, None].expand_as(visual), visual.to(text.dtype))


def encode(turns: Sequence[QuestionAnswer], build: PromptBuilder) -> list[TokenizedConversation]:
    """Tokenizes a conversation; its image comes before the first question.

    The tokens before each answer are exactly the prompt that the model reads when it is asked. So
    turns share a row only while each prompt goes on from the one before it with its answer. Some
    templates write an old answer in another way than a new one; a new row then begins.
    """
    rows: list[TokenizedConversation] = []
    messages: list[PromptMessage] = []
    ids: list[int] = []
    labels: list[int] = []
    for i, turn in enumerate(turns):
        messages.append(PromptMessage(role="user", text=turn.question, images=int(i == 0)))
        prompt, answer = build.exchange(messages, turn.answer)
        if rows and prompt.ids[: len(ids)] == ids:
            rows.pop()
        else:
            labels = []
        labels = labels + [IGNORED] * (len(prompt.ids) - len(labels)) + answer
        ids = prompt.ids + answer
        rows.append(TokenizedConversation(ids, labels, prompt.image_positions[0]))
        messages.append(PromptMessage(role="assistant", text=turn.answer))
    return rows


def collate(rows: Sequence[TokenizedConversation]) -> TokenBatch:
    """Pads conversations to one batch."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    labels = torch.full_like(ids, IGNORED)
    mask = torch.zeros_like(ids)
    for b, row in enumerate(rows):
        ids[b, : len(row.ids)] = torch.tensor(row.ids)
        labels[b, : len(row.ids)] = torch.tensor(row.labels)
        mask[b, : len(row.ids)] = 1
    return TokenBatch(ids, labels, mask, torch.tensor([row.image_position for row in rows]))
