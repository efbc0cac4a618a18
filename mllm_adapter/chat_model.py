"""Steered conversations: images' codes and edits in, text out. T tokens, P patches, H LLM width.

The LLM is never hooked: an edit ends in front of the projector, so that all conversations share one
batch whatever their edits are, and steering costs nothing a token.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from tokenizers.decoders import DecodeStream
from torch import Tensor

from mllm_adapter.engines import GENERATION_ENGINES
from mllm_adapter.engines.base import FinishReason, GenerationEngine, Sampling
from mllm_adapter.model.adapter import Adapter, open_adapter
from mllm_adapter.model.llm import context_length
from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.model.prompt import Prompt, PromptBuilder, PromptMessage
from mllm_adapter.steering.plan import SteeringBatch, SteeringPlan

SUMS_CACHE_BYTES = 256 * 2**20
"""Of first-layer sums of the images seen last."""


@dataclass(frozen=True, kw_only=True)
class EncodedImage:
    """An image of a conversation."""

    key: bytes
    """A digest of its bytes: the same image is projected once, whatever its edits are."""
    codes: PatchCodes
    """B = 1."""
    plan: SteeringPlan


@dataclass(frozen=True, kw_only=True)
class TextDelta:
    """A piece of an answer."""

    text: str
    tokens: int
    """How many tokens it took."""
    finish: FinishReason = ""


class ChatModel:
    """An adapter, its tokenizer and the engine that runs its LLM."""

    def __init__(
        self,
        adapter: Adapter,
        tokenizer: Any,
        embeddings: Float[Tensor, "V H"],
        engine: GenerationEngine,
    ) -> None:
        self.adapter, self.engine = adapter, engine
        self.context = context_length(adapter.llm)
        """Tokens that the LLM takes, prompt and answer together."""
        self._tokenizer = tokenizer
        self._embeddings = embeddings
        self._build = PromptBuilder(tokenizer, adapter.config.visual_tokens, adapter.config.system)
        self._sums: OrderedDict[bytes, Float[Tensor, "1 P H"]] = OrderedDict()

    @classmethod
    def open(
        cls,
        folder: Path,
        engine: str = GENERATION_ENGINES.names[0],
        max_batch: int = 32,
        **options: Any,
    ) -> ChatModel:
        """Opens a bundle's `adapter` directory and loads its LLM into an engine; `options` are the
        engine's own.

        Raises PluginError when a library of the engine is missing, AdapterError, LLMError, and
        DataError when an LLM that is fetched cannot be had.
        """
        adapter = open_adapter(folder)
        loaded = GENERATION_ENGINES.load(engine).open(adapter.llm, max_batch, **options)
        return cls(adapter, loaded.tokenizer, loaded.embeddings, loaded.engine)

    def prompt(self, messages: Sequence[PromptMessage]) -> Prompt:
        """Token ids of a conversation, under its own system message or else the adapter's."""
        return self._build(messages)

    @torch.inference_mode()
    def embed(self, prompt: Prompt, images: Sequence[EncodedImage]) -> Float[Tensor, "T H"]:
        """What the LLM reads: the embeddings of tokens, and the images' visual tokens."""
        embedded = self._embeddings[torch.tensor(prompt.ids)].float()
        for place, image in zip(prompt.places, images, strict=True):
            tokens = self.visual_tokens(image)
            embedded[place : place + len(tokens)] = tokens
        return embedded

    @torch.inference_mode()
    def visual_tokens(self, image: EncodedImage) -> Float[Tensor, "P1 H"]:
        """An image's codes after its edits, projected. An edit of k concepts costs k rows."""
        projector = self.adapter.projector
        sums = self._sums.get(image.key)
        if sums is None:
            sums = projector.sums(image.codes)
            self._sums[image.key] = sums
            while len(self._sums) * sums.nbytes > SUMS_CACHE_BYTES:  # all have one shape
                self._sums.popitem(last=False)
        else:
            self._sums.move_to_end(image.key)
        batch = SteeringBatch.from_plans([image.plan], self.adapter.config.patches)
        return projector.tokens(projector.steered(sums, image.codes, batch))[0]

    async def answer(
        self, embedded: Float[Tensor, "T H"], sampling: Sampling
    ) -> AsyncGenerator[TextDelta]:
        """The answer as it comes. Closed before its end, it frees its place in the engine's batch.

        Raises GenerationError.
        """
        stream = DecodeStream(skip_special_tokens=True)
        backend = self._tokenizer.backend_tokenizer
        async with aclosing(self.engine.generate(embedded, sampling)) as pieces:
            async for piece in pieces:
                text = "".join(stream.step(backend, token) or "" for token in piece.ids)
                yield TextDelta(text=text, tokens=len(piece.ids), finish=piece.finish)

    async def close(self) -> None:
        """Ends the engine."""
        await self.engine.close()
