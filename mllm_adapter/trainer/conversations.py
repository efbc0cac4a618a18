"""Conversations as token batches with labels.

B rows, T tokens, I images, P1 visual tokens of an image, H LLM width.
"""

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
    """One conversation, or the beginning of one."""

    ids: list[int]
    labels: list[int]
    """One per token: its id where it is learned, else IGNORED."""
    image_positions: list[int]
    """For each image, the position of its first visual token in `ids`."""


class TokenBatch(NamedTuple):
    """Conversations padded on the right to the longest."""

    ids: Int[Tensor, "B T"]
    labels: Int[Tensor, "B T"]
    mask: Int[Tensor, "B T"]
    """1 for tokens, 0 for padding."""
    image_rows: Int[Tensor, " I"]
    """The row of each image."""
    image_positions: Int[Tensor, " I"]

    @property
    def learned(self) -> int:
        """The number of tokens that are learned."""
        return int((self.labels[:, 1:] != IGNORED).sum())

    def embedded(
        self, text: Float[Tensor, "B T H"], visual: Float[Tensor, "I P1 H"]
    ) -> Float[Tensor, "B T H"]:
        """Puts each image's visual tokens into the embeddings of its row's token ids, `text`."""
        offsets = torch.arange(visual.shape[1], device=text.device)
        positions = self.image_positions[:, None] + offsets  # (I, P1)
        return text.index_put((self.image_rows[:, None], positions), visual.to(text.dtype))


def encode(turns: Sequence[QuestionAnswer], build: PromptBuilder) -> list[TokenizedConversation]:
    """Tokenizes questions and answers; the image comes before the first question."""
    messages: list[PromptMessage] = []
    for i, turn in enumerate(turns):
        messages.append(PromptMessage(role="user", text=turn.question, images=int(i == 0)))
        messages.append(PromptMessage(role="assistant", text=turn.answer))
    return encode_messages(messages, build)


def encode_messages(
    messages: Sequence[PromptMessage], build: PromptBuilder
) -> list[TokenizedConversation]:
    """Tokenizes a conversation of which every answer is learned.

    The tokens before each answer are exactly the prompt that the model reads when it is asked. So
    answers share a row only while each prompt goes on from the one before it with its answer. Some
    templates write an old answer in another way than a new one; a new row then begins.
    """
    rows: list[TokenizedConversation] = []
    ids: list[int] = []
    labels: list[int] = []
    for i, message in enumerate(messages):
        if message.role != "assistant":
            continue
        prompt, answer = build.exchange(messages[:i], message.text)
        if rows and prompt.ids[: len(ids)] == ids:
            rows.pop()
        else:
            labels = []
        labels = labels + [IGNORED] * (len(prompt.ids) - len(labels)) + answer
        ids = prompt.ids + answer
        rows.append(TokenizedConversation(ids, labels, prompt.image_positions))
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
    places = [(b, position) for b, row in enumerate(rows) for position in row.image_positions]
    image_rows, positions = torch.tensor(places, dtype=torch.int64).reshape(-1, 2).unbind(1)
    return TokenBatch(ids, labels, mask, image_rows, positions)
