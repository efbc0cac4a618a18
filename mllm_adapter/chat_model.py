"""Steered conversations: images' codes and edits in, text out. T tokens, P patches, H LLM width.

Edits are applied before the projector and the LLM is not modified. So conversations under different
edits share one batch, and steering costs nothing per token.
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
from mllm_adapter.model.llm import TokenEmbeddings, context_length
from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.model.prompt import Prompt, PromptBuilder, PromptMessage
from mllm_adapter.steering.plan import SteeringBatch, SteeringPlan
from mllm_adapter.stop_sequences import StopScanner

SUMS_CACHE_BYTES = 256 * 2**20
"""Memory for the first-layer sums of the most recently used images."""


@dataclass(frozen=True, kw_only=True)
class EncodedImage:
    """An image of a conversation, as codes and edits."""

    key: bytes
    """A digest of the image's bytes. Images of one key share the first layer's sums, whatever their
    edits are."""
    codes: PatchCodes
    """The codes before edits, with B = 1."""
    plan: SteeringPlan


@dataclass(frozen=True, kw_only=True)
class TextDelta:
    """A piece of an answer's text."""

    text: str
    """May be empty, while the tokens so far end inside a character or could become a stop
    sequence."""
    tokens: int
    """How many tokens were decoded since the last delta; the last one may have text and none."""
    finish: FinishReason = ""
    """Set on the last delta of an answer."""
    stop: str = ""
    """The stop sequence that ended the answer, on its last delta. No delta's text has any of it."""


class ChatModel:
    """An adapter, its tokenizer and the engine that runs its LLM."""

    def __init__(
        self,
        adapter: Adapter,
        tokenizer: Any,
        embeddings: TokenEmbeddings,
        engine: GenerationEngine,
    ) -> None:
        self.adapter, self.engine = adapter, engine
        self.context = context_length(adapter.llm)
        """The most tokens that the LLM can hold, prompt and answer together."""
        self._tokenizer = tokenizer
        self._embeddings = embeddings
        self._build = PromptBuilder(tokenizer, adapter.config.visual_tokens, adapter.config.system)
        self._sums: OrderedDict[bytes, Float[Tensor, "1 P H"]] = OrderedDict()
        """First-layer sums by image key, the least recently used first."""

    @classmethod
    def open(
        cls,
        folder: Path,
        engine: str = GENERATION_ENGINES.names[0],
        max_batch: int = 32,
        **options: Any,
    ) -> ChatModel:
        """Opens a bundle's `adapter` directory and loads its LLM into an engine.

        `options` are specific to the engine. Raises PluginError when the engine's library is
        missing, AdapterError or LLMError.
        """
        adapter = open_adapter(folder)
        loaded = GENERATION_ENGINES.load(engine).open(adapter.llm, max_batch, **options)
        return cls(adapter, loaded.tokenizer, loaded.embeddings, loaded.engine)

    def prompt(self, messages: Sequence[PromptMessage]) -> Prompt:
        """Builds the prompt of a conversation; without a system message it gets the adapter's."""
        return self._build(messages)

    @torch.inference_mode()
    def embed(self, prompt: Prompt, images: Sequence[EncodedImage]) -> Float[Tensor, "T H"]:
        """The LLM's input: the embeddings of the prompt's tokens, with visual tokens put in."""
        embedded = self._embeddings(torch.tensor(prompt.ids))
        for position, image in zip(prompt.image_positions, images, strict=True):
            tokens = self.visual_tokens(image)
            embedded[position : position + len(tokens)] = tokens
        return embedded

    @torch.inference_mode()
    def visual_tokens(self, image: EncodedImage) -> Float[Tensor, "P1 H"]:
        """Projects an image's edited codes. For an image whose sums are cached, k edits cost k
        rows of the first layer."""
        projector = self.adapter.projector
        sums = self._sums.get(image.key)
        if sums is None:
            sums = projector.sums(image.codes)
            self._sums[image.key] = sums
            while len(self._sums) * sums.nbytes > SUMS_CACHE_BYTES:  # all sums have one shape
                self._sums.popitem(last=False)
        else:
            self._sums.move_to_end(image.key)
        batch = SteeringBatch.from_plans([image.plan], self.adapter.config.patches)
        return projector.tokens(projector.steered(sums, image.codes, batch))[0]

    async def answer(
        self, embedded: Float[Tensor, "T H"], sampling: Sampling, stops: Sequence[str] = ()
    ) -> AsyncGenerator[TextDelta]:
        """Yields the answer as it is decoded, up to the first of the texts `stops`.

        Closing the generator early frees its slot in the engine's batch. Raises GenerationError.
        """
        stream, scanner = DecodeStream(skip_special_tokens=True), StopScanner(stops)
        backend = self._tokenizer.backend_tokenizer
        last: TextDelta | None = None
        async with aclosing(self.engine.generate(embedded, sampling)) as deltas:
            async for delta in deltas:
                text = "".join(stream.step(backend, token) or "" for token in delta.ids)
                text = scanner.feed(text)
                if delta.finish and not scanner.found:
                    text += scanner.finish()
                finish = "stop" if scanner.found else delta.finish
                last = TextDelta(
                    text=text, tokens=len(delta.ids), finish=finish, stop=scanner.found
                )
                if finish:
                    break
                yield last
        # The slot is free by now, however slowly the caller reads.
        if last is not None and last.finish:
            yield last

    async def close(self) -> None:
        """Closes the engine and frees the LLM."""
        await self.engine.close()
