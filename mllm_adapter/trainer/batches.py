"""Training batches: images' codes and conversations about them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from mllm_adapter.data.code_cache import CodeTable
from mllm_adapter.data.instructions import Instructions, QuestionAnswer
from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.model.prompt import PromptBuilder
from mllm_adapter.trainer.conversations import TokenBatch, TokenizedConversation, collate, encode

CONVERSATIONS_PER_BATCH = 32
"""Conversations that go through the LLM together, the longest deciding how far they are padded."""


class ConversationBatch(NamedTuple):
    """Conversations that go through the LLM together."""

    codes: PatchCodes
    text: TokenBatch

    def to(self, device: torch.device) -> ConversationBatch:
        """The same on a device."""
        return ConversationBatch(
            PatchCodes(*(x.to(device) for x in self.codes)),
            TokenBatch(*(x.to(device) for x in self.text)),
        )


class EasyVqaMix(NamedTuple):
    """easy-vqa's questions with the codes of its images, mixed in at some share."""

    table: CodeTable | None
    questions: Sequence[tuple[int, QuestionAnswer]]
    share: float


class _Sample(NamedTuple):
    """One conversation to be."""

    table: CodeTable
    image: int
    text: TokenizedConversation


class ConversationSampler:
    """Batches of a split; a batch depends on the seed and its step only."""

    def __init__(
        self,
        meta: Sequence[Mapping[str, Any]],
        tables: Sequence[CodeTable],
        build: PromptBuilder,
        shapes: EasyVqaMix,
        *,
        seed: int,
    ) -> None:
        self._instructions = Instructions(meta)
        self._meta, self._tables = meta, tables
        self._build, self._shapes = build, shapes
        self._seed = seed
        self._epoch = -1

    def batch(self, step: int, size: int) -> list[ConversationBatch]:
        """The batch of a step counted from 0, in parts of like lengths."""
        rng = random.Random(self._seed * 1_000_003 + step)
        rows = [
            self._shape(rng)
            if rng.random() < self._shapes.share
            else self._image(self._order(step * size + i), rng)
            for i in range(size)
        ]
        rows.sort(key=lambda row: len(row.text.ids))
        return [
            _collate(rows[i : i + CONVERSATIONS_PER_BATCH])
            for i in range(0, size, CONVERSATIONS_PER_BATCH)
        ]

    def _shape(self, rng: random.Random) -> _Sample:
        assert self._shapes.table is not None
        image, turn = rng.choice(self._shapes.questions)
        return _Sample(self._shapes.table, image, encode([turn], self._build))

    def _image(self, image: int, rng: random.Random) -> _Sample:
        turns = self._instructions.conversation(self._meta[image], rng)
        return _Sample(rng.choice(self._tables), image, encode(turns, self._build))

    def _order(self, place: int) -> int:
        """The image at a place: epoch after epoch, each in an order of its own."""
        epoch, i = divmod(place, len(self._meta))
        if epoch != self._epoch:
            self._epoch = epoch
            shuffle = np.random.default_rng([self._seed, epoch])
            self._shuffled = shuffle.permutation(len(self._meta))
        return int(self._shuffled[i])


def _collate(rows: Sequence[_Sample]) -> ConversationBatch:
    parts = [row.table.codes([row.image]) for row in rows]
    slots = max(part.indices.shape[2] for part in parts)
    padded = [[F.pad(x, (0, slots - x.shape[2])) for x in part] for part in parts]
    codes = PatchCodes(*(torch.cat(column) for column in zip(*padded, strict=True)))
    return ConversationBatch(codes, collate([row.text for row in rows]))
