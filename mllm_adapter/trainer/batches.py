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
from mllm_adapter.data.text_pictures import TextPictures
from mllm_adapter.data.text_questions import PhraseQuestions
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


class TextMix(NamedTuple):
    """Phrases that stand for images, mixed into the training conversations."""

    pictures: TextPictures | None
    """Their codes; None without a share."""
    questions: PhraseQuestions | None
    share: float
    """The probability that a conversation is about phrases."""


NO_TEXTS = TextMix(pictures=None, questions=None, share=0.0)
NO_EASY_VQA = EasyVqaMix(table=None, questions=(), share=0.0)
NO_OWN = OwnMix(tables=(), image_rows={}, conversations=(), share=0.0)


class _ConversationSample(NamedTuple):
    """One conversation, and the images that it is about."""

    codes: PatchCodes | None
    """Of the images; None without any."""
    text: TokenizedConversation


class ConversationSampler:
    """Draws the batches of a split. A batch depends only on the seed and its step.

    `meta` has an entry for each image of the tables, None for one that is not learned from.
    `weights` are those of styles, 1 for a style that is not there.
    """

    def __init__(
        self,
        meta: Sequence[Mapping[str, Any] | None],
        tables: Sequence[CodeTable],
        build: PromptBuilder,
        easy_vqa: EasyVqaMix = NO_EASY_VQA,
        own: OwnMix = NO_OWN,
        *,
        texts: TextMix = NO_TEXTS,
        weights: Mapping[str, float] | None = None,
        seed: int,
    ) -> None:
        self._learned = [(row, m) for row, m in enumerate(meta) if m is not None]
        self._instructions = Instructions([m for _, m in self._learned])
        weights = weights or {}
        self._tables, self._build = tables, build
        self._easy_vqa, self._own, self._texts = easy_vqa, own, texts
        self._seed = seed
        self._images = _Order(np.array([weight(m, weights) for _, m in self._learned]), seed)
        self._conversations = _Order(np.ones(len(own.conversations)), seed)
        phrases = len(texts.questions.phrases) if texts.questions else 0
        self._phrases = _Order(np.ones(phrases), seed)

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
        if kind < self._easy_vqa.share + self._own.share + self._texts.share:
            return self._text_sample(self._phrases[position], rng)
        return self._sample(*self._learned[self._images[position]], rng)

    def _easy_vqa_sample(self, rng: random.Random) -> list[_ConversationSample]:
        table = self._easy_vqa.table
        assert table is not None
        image, turn = rng.choice(self._easy_vqa.questions)
        codes = table.codes([image])
        return [_ConversationSample(codes, row) for row in encode([turn], self._build)]

    def _own_sample(self, number: int, rng: random.Random) -> list[_ConversationSample]:
        own, conversation = self._own, self._own.conversations[number]
        table = rng.choice(own.tables) if own.tables else None
        images = [own.image_rows[name] for name in conversation.images]
        samples = []
        for row in encode_messages(conversation.messages, self._build):
            shown = images[: len(row.image_positions)]
            codes = table.codes(shown) if table is not None and shown else None
            samples.append(_ConversationSample(codes, row))
        return samples

    def _text_sample(self, phrase: int, rng: random.Random) -> list[_ConversationSample]:
        pictures, questions = self._texts.pictures, self._texts.questions
        assert pictures is not None
        assert questions is not None
        kind, shown = rng.random(), [phrase]
        if kind < pictures.config.empty:
            shown = []
        elif kind < pictures.config.empty + pictures.config.pairs:
            other = rng.randrange(len(questions.phrases))
            shown += [other] * (other != phrase)
        turns, codes = questions.conversation(shown, rng), pictures(shown, rng)
        return [_ConversationSample(codes, row) for row in encode(turns, self._build)]

    def _sample(
        self, image: int, meta: Mapping[str, Any], rng: random.Random
    ) -> list[_ConversationSample]:
        turns = self._instructions.conversation(meta, rng)
        codes = rng.choice(self._tables).codes([image])
        return [_ConversationSample(codes, row) for row in encode(turns, self._build)]


def weight(meta: Mapping[str, Any], weights: Mapping[str, float]) -> float:
    """How often an epoch has an image."""
    return weights.get(meta.get("style", ""), 1.0)


class _Order:
    """The items at the positions of a run: epoch after epoch, each shuffled anew. An item of weight
    0.2 is in every fifth epoch on average, and one of weight 2 twice in each."""

    def __init__(self, weights: NDArray[np.float64], seed: int) -> None:
        self._weights, self._seed = weights, seed
        self._count = round(weights.sum())
        self._epoch = -1
        self._shuffled: NDArray[np.int64]

    def __getitem__(self, position: int) -> int:
        epoch, i = divmod(position, self._count)
        if epoch != self._epoch:
            self._epoch = epoch
            generator = np.random.default_rng([self._seed, epoch])
            times = np.floor(self._weights).astype(np.int64)
            if more := self._count - times.sum():
                # The exponential race: as many more as the epoch has room for, by the rest of
                # their weights.
                with np.errstate(divide="ignore"):
                    arrival = generator.exponential(size=len(times)) / (self._weights - times)
                times[arrival.argsort(kind="stable")[:more]] += 1
            self._shuffled = generator.permutation(np.repeat(np.arange(len(times)), times))
        return int(self._shuffled[i])


def _collate(rows: Sequence[_ConversationSample]) -> ConversationBatch:
    parts = [row.codes for row in rows if row.codes is not None]
    text = collate([row.text for row in rows])
    if not parts:
        return ConversationBatch(
            PatchCodes(torch.zeros(0, 1, 1).long(), torch.zeros(0, 1, 1)), text
        )
    slots = max(part.indices.shape[2] for part in parts)
    padded = [[F.pad(x, (0, slots - x.shape[2])) for x in part] for part in parts]
    codes = PatchCodes(*(torch.cat(column) for column in zip(*padded, strict=True)))
    return ConversationBatch(codes, text)
