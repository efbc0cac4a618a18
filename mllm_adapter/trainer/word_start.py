"""A projector learns the words of codes before the LLM's layers read them.

An LLM that reads a visual token well has two tasks: to find out which words the code stands for,
and to say them in order. The first one needs no layer of the LLM: the tokens of the label should be
those whose embeddings are most like the visual token. So it is learned as a classification with
several right tokens, at a hundredth of the cost of a conversation. The LLM's layers then start from
visual tokens that they only have to copy.

B samples, C concepts, V vocabulary, H LLM width, T tokens of the labels of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.progress import show_progress
from mllm_adapter.adapter_recipe import WordsConfig
from mllm_adapter.data.code_tables import CodeTable
from mllm_adapter.data.phrase_concepts import PhraseConcepts
from mllm_adapter.data.texts_config import TextsConfig
from mllm_adapter.model.projector import Projector
from training.core.optimizer import (
    OptimizerConfig,
    build_optimizer,
    learning_rate,
    set_learning_rate,
)
from training.core.precision import Precision, autocast

SHARPNESS = 38.0
"""The logits are cosines times this."""
WARMUP = 0.05
MAX_IMAGES = 100_000
"""The most images that words are learned from; they are spread over all."""


class WordBatch(NamedTuple):
    """Codes, and the tokens of their labels."""

    codes: Float[Tensor, "B C"]
    ids: Int[Tensor, " T"]
    rows: Int[Tensor, " T"]
    """The code that each token belongs to."""


class WordSamples:
    """Codes with their labels: half of them mean codes of images, half text codes."""

    def __init__(
        self,
        captions: Sequence[str],
        weights: Sequence[float],
        tables: Sequence[CodeTable],
        texts: PhraseConcepts,
        config: TextsConfig,
        token_ids: Callable[[str], list[int]],
        seed: int,
    ) -> None:
        """`captions` are the labels of the images of each table, empty for one that is left out,
        and `weights` say how often each is drawn. Text codes vary in strength and by noise, as
        `config` has it."""
        labelled = [row for row, caption in enumerate(captions) if caption]
        labelled = labelled[:: -(-len(labelled) // MAX_IMAGES) or 1]
        self._images = [table.of_means(labelled) for table in tables] if labelled else []
        self._captions = [token_ids(captions[row]) for row in labelled]
        chosen = np.array([weights[row] for row in labelled])
        self._shares = chosen / chosen.sum()
        fires = np.flatnonzero(texts.values.any(axis=1)).tolist()
        self._texts = texts.taken([texts.phrases[row] for row in fires], texts.indices.shape[1])
        self._phrases = [token_ids(phrase) for phrase in self._texts.phrases]
        self._strength, self._noise = np.log(config.strength), config.noise
        self._rng = np.random.default_rng(seed)

    def __bool__(self) -> bool:
        return bool(self._captions or self._phrases)

    def draw(self, count: int) -> WordBatch:
        """The next samples."""
        parts: list[Tensor] = []
        labels: list[list[int]] = []
        of_images = count * bool(self._captions) // (1 + bool(self._phrases))
        if of_images < count:
            texts = self._rng.integers(len(self._phrases), size=count - of_images)
            parts.append(torch.from_numpy(self._text_codes(texts)))
            labels += [self._phrases[i] for i in texts]
        if of_images:
            images = self._rng.choice(len(self._captions), of_images, p=self._shares)
            table = self._images[self._rng.integers(len(self._images))]
            parts.append(table.codes([*images]).dense(table.concepts)[:, 0])
            labels += [self._captions[i] for i in images]
        rows = torch.arange(count).repeat_interleave(torch.tensor([len(x) for x in labels]))
        return WordBatch(torch.cat(parts), torch.tensor([*chain(*labels)]), rows)

    def _text_codes(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        codes = self._texts.dense(rows)
        low, high = self._strength
        strength = np.exp(self._rng.uniform(low, high, (len(rows), 1)))
        noise = np.exp(self._rng.normal(0, self._noise, codes.shape))
        return (codes * strength * noise).astype(np.float32)


def learn_words(
    projector: Projector,
    table: nn.Parameter,
    samples: WordSamples,
    config: WordsConfig,
    precision: Precision,
    *,
    learns_table: bool,
) -> None:
    """Trains a projector, and with `learns_table` the LLM's embeddings `table` (V, H).

    The loss is the cross entropy of each label's tokens, the mean over the label. In the end visual
    tokens are scaled to the size of the LLM's token embeddings.
    """
    if not samples:
        return
    device = table.device
    model = nn.Module()
    model.projector = projector
    if learns_table:
        model.table = table
    optimizer_config = OptimizerConfig(lr=config.lr, warmup=WARMUP, weight_decay=0.05)
    optimizer = build_optimizer(model, optimizer_config)
    with show_progress("words", config.steps, "steps") as advance:
        for step in range(config.steps):
            batch = WordBatch(*(x.to(device) for x in samples.draw(config.batch_size)))
            with autocast(precision, device):
                tokens = projector.project(batch.codes)
                like = F.normalize(tokens, dim=-1) @ F.normalize(table, dim=-1).T
            log_shares = (like.float() * SHARPNESS).log_softmax(-1)  # (B, V)
            per_token = 1 / batch.rows.bincount(minlength=len(batch.codes))[batch.rows]
            loss = -(log_shares[batch.rows, batch.ids] * per_token).sum() / len(batch.codes)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            set_learning_rate(optimizer, learning_rate(step, config.steps, optimizer_config))
            optimizer.step()
            model.zero_grad()
            advance()
    with torch.no_grad():
        std = projector.project(samples.draw(config.batch_size).codes.to(device)).std()
        projector.out.weight.mul_(table.float().std() / std)
        projector.out.bias.mul_(table.float().std() / std)
