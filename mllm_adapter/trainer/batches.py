"""Training batches: codes of images, and conversations about them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mllm_adapter.data.code_tables import CodeTable
from mllm_adapter.data.instructions import Instructions, QuestionAnswer
from mllm_adapter.data.own_conversations import Conversation
from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.model.prompt import PromptBuilder
from mllm_adapter.trainer.conversations import (
    TokenBatch,
    TokenizedConversation,
    collate,
    encode,
    encode_messages,
)
from training.core.seeds import derive_seed

CONVERSATIONS_PER_BATCH = 32
"""Conversations per forward pass; all are padded to the longest of them."""


class ConversationBatch(NamedTuple):
    """Conversations that go through the LLM in one forward pass."""

    codes: PatchCodes
    """Of the images of all conversations, in the order of `text.image_rows`."""
    text: TokenBatch

    def to(self, device: torch.device) -> ConversationBatch:
        """Copies the batch to a device."""
        return ConversationBatch(
            PatchCodes(*(x.to(device) for x in self.codes)),
            TokenBatch(*(x.to(device) for x in self.text)),
        )


class EasyVqaMix(NamedTuple):
    """Questions of easy-vqa that are mixed into the training conversations."""

    table: CodeTable | None
    """The codes of easy-vqa's images; None without a share."""
    questions: Sequence[tuple[int, QuestionAnswer]]
    """Pairs of an image's row in `table` and a question about it."""
    share: float
    """The probability that a conversation is one of these questions."""


class OwnMix(NamedTuple):
    """A user's own conversations that are mixed into the training conversations."""

    tables: Sequence[CodeTable]
    """The codes of their images, one table for each view; none without an image."""
    image_rows: Mapping[str, int]
    """The row of each image in the tables."""
    conversations: Sequence[Conversation]
    share: float
    """The probability that a conversation is one of these."""


NO_EASY_VQA = EasyVqaMix(table=None, questions=(), share=0.0)
NO_OWN = OwnMix(tables=(), image_rows={}, conversations=(), share=0.0)


class _ConversationSample(NamedTuple):
    """One conversation, and the images that it is about."""

    table: CodeTable | None
    images: Sequence[int]
    """The images' rows in `table`."""
    text: TokenizedConversation


class ConversationSampler:
    """Draws the batches of a split. A batch depends only on the seed and its step."""

    def __init__(
        self,
        meta: Sequence[Mapping[str, Any]],
        tables: Sequence[CodeTable],
        build: PromptBuilder,
        easy_vqa: EasyVqaMix = NO_EASY_VQA,
        own: OwnMix = NO_OWN,
        *,
        seed: int,
    ) -> None:
        self._instructions = Instructions(meta)
        self._meta, self._tables = meta, tables
        self._build, self._easy_vqa, self._own = build, easy_vqa, own
        self._seed = seed
        self._images = _Order(len(meta), seed)
        self._conversations = _Order(len(own.conversations), seed)

    def batch(self, step: int, size: int) -> list[ConversationBatch]:
        """The batch of a step, counted from 0, split into parts of similar length."""
        rng = random.Random(derive_seed(self._seed, step))
        rows = [row for i in range(size) for row in self._draw(step * size + i, rng)]
        rows.sort(key=lambda row: len(row.text.ids))
        return [
            _collate(rows[i : i + CONVERSATIONS_PER_BATCH])
            for i in range(0, len(rows), CONVERSATIONS_PER_BATCH)
        ]

    def _draw(self, position: int, rng: random.Random) -> list[_ConversationSample]:
        """The conversation at a position of the run, as one or more rows."""
        kind = rng.random()
        if kind < self._easy_vqa.share:
            return self._easy_vqa_sample(rng)
        if kind < self._easy_vqa.share + self._own.share:
            return self._own_sample(self._conversations[position], rng)
        return self._sample(self._images[position], rng)

    def _easy_vqa_sample(self, rng: random.Random) -> list[_ConversationSample]:
        table = self._easy_vqa.table
        assert table is not None
        image, turn = rng.choice(self._easy_vqa.questions)
        return [_ConversationSample(table, [image], row) for row in encode([turn], self._build)]

    def _own_sample(self, number: int, rng: random.Random) -> list[_ConversationSample]:
        own, conversation = self._own, self._own.conversations[number]
        table = rng.choice(own.tables) if own.tables else None
        images = [own.image_rows[name] for name in conversation.images]
        return [
            _ConversationSample(table, images[: len(row.image_positions)], row)
            for row in encode_messages(conversation.messages, self._build)
        ]

    def _sample(self, image: int, rng: random.Random) -> list[_ConversationSample]:
        turns = self._instructions.conversation(self._meta[image], rng)
        table = rng.choice(self._tables)
        return [_ConversationSample(table, [image], row) for row in encode(turns, self._build)]


class _Order:
    """The items at the positions of a run: epoch after epoch, each shuffled anew."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._epoch = -1
        self._shuffled: NDArray[np.int64]

    def __getitem__(self, position: int) -> int:
        epoch, i = divmod(position, self._count)
        if epoch != self._epoch:
            self._epoch = epoch
            generator = np.random.default_rng([self._seed, epoch])
            self._shuffled = generator.permutation(self._count)
        return int(self._shuffled[i])


def _collate(rows: Sequence[_ConversationSample]) -> ConversationBatch:
    parts = [row.table.codes(row.images) for row in rows if row.table is not None and row.images]
    text = collate([row.text for row in rows])
    if not parts:
        return ConversationBatch(
            PatchCodes(torch.zeros(0, 1, 1).long(), torch.zeros(0, 1, 1)), text
        )
    slots = max(part.indices.shape[2] for part in parts)
    padded = [[F.pad(x, (0, slots - x.shape[2])) for x in part] for part in parts]
    codes = PatchCodes(*(torch.cat(column) for column in zip(*padded, strict=True)))
    return ConversationBatch(codes, text)
