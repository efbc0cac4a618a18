"""One model's conversations: encode the images, edit them, and give the answer as it is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from bundle.concepts import ConceptVocabulary
from serving.batching.worker_thread import WorkerThread
from serving.chat.chat_request import (
    ChatCall,
    ConversationTurn,
    DeltaEvent,
    EndEvent,
    Event,
    SamplingRequest,
    StartEvent,
    SteeredImage,
)
from serving.chat.image_codes import EmbedItems, VisionEncoder
from serving.chat.load_chat_model import LanguageModel
from serving.chat.prompt_assembly import AssembledPrompt, PromptAssembler
from serving.core.call_trace import current_trace
from serving.core.errors import ErrorKind, ServingError
from serving.core.limits import LimitsConfig
from serving.core.metrics import ChatMetrics
from serving.core.requests import ModelSelector
from serving.engines.base import EngineError

ENDED = "the language model of this server has ended; embeddings are still answered"


@dataclass(frozen=True, kw_only=True)
class PhraseDefaults:
    """How an adapter edits phrases."""

    top: int
    """How many concepts a phrase stands for."""
    strength: float
    """The value of SET."""


class Chat:
    """Answers conversations about images with one adapter and its language model."""

    def __init__(
        self,
        model: LanguageModel,
        concepts: ConceptVocabulary,
        embed: EmbedItems,
        limits: LimitsConfig,
        metrics: ChatMetrics,
        on_ended: Callable[[], None],
    ) -> None:
        """`on_ended` is called when a conversation finds that the engine has ended."""
        self._model, self._on_ended = model, on_ended
        self._metrics = metrics
        self._vision = VisionEncoder(embed, len(concepts), metrics)
        self._assembler = PromptAssembler(model, concepts, limits)
        # Tokenizing, editing and projecting are torch and Python code that blocks.
        self._thread = WorkerThread("chat")

    @property
    def ended(self) -> bool:
        """Whether the engine has ended for good."""
        return bool(self._model.engine.ended)

    @property
    def phrase_defaults(self) -> PhraseDefaults:
        """What a phrase becomes where its edit does not say."""
        words = self._model.adapter.config.words
        return PhraseDefaults(top=words.top, strength=words.strength)

    async def converse(self, call: ChatCall, deadline: float) -> AsyncGenerator[Event]:
        """The events of one conversation; `deadline` is in the event loop's time.

        An async generator that owns its cancellation: when it is closed before its end, its slot in
        the engine's batch is free within one decoding step. Raises ServingError.
        """
        loop = asyncio.get_running_loop()
        tokenized = await self._thread.run(lambda: self._assembler.tokenize(call))
        codes = await self._vision.encode(call, tokenized.digests, deadline)
        encoded_at = loop.time()
        assembled = await self._thread.run(lambda: self._assembler.assemble(call, tokenized, codes))
        assembled_at = loop.time()
        prompt_tokens = len(tokenized.prompt.ids)
        yield StartEvent(
            engine=self._model.engine.description,
            images=assembled.audits,
            prompt_tokens=prompt_tokens,
            context_tokens=self._model.context,
            phrases=codes.phrase_coverages,
        )
        # Not `assembled_at`: the caller may have taken its time over the event.
        asked_at = loop.time()
        first_token_s, tokens, finish, stop = 0.0, 0, "", ""
        async with aclosing(self._deltas(assembled, call.sampling.stop)) as deltas:
            async for delta in deltas:
                if not first_token_s:
                    first_token_s = loop.time() - asked_at
                    self._metrics.first_token.observe(first_token_s)
                self._metrics.tokens.inc(delta.tokens)
                tokens += delta.tokens
                finish, stop = delta.finish, delta.stop
                if delta.tokens or delta.text:
                    yield DeltaEvent(text=delta.text, tokens=delta.tokens)
        if (trace := current_trace()) is not None:
            trace.stage("chat prepare", encoded_at, assembled_at)
            trace.stage("chat first token", asked_at, asked_at + first_token_s)
            trace.stage(
                "chat generate", asked_at, loop.time(), **{"sparseclip.chat.tokens": tokens}
            )
        images = len(tokenized.prompt.image_positions)
        yield EndEvent(
            finish="stop" if finish == "stop" else "length",
            stop=stop,
            prompt_tokens=prompt_tokens,
            image_tokens=images * self._model.adapter.config.visual_tokens,
            completion_tokens=tokens,
            context_tokens=self._model.context,
            vision=codes.times,
            prepare_s=assembled_at - encoded_at,
            first_token_s=first_token_s,
        )

    async def _deltas(
        self, assembled: AssembledPrompt, stops: tuple[str, ...]
    ) -> AsyncGenerator[Any]:
        answer = self._model.answer(assembled.embedded, assembled.sampling, stops)
        try:
            async with aclosing(answer) as deltas:
                async for delta in deltas:
                    yield delta
        except RuntimeError:  # GenerationError, whose import needs torch
            if not self.ended:
                raise
            self._on_ended()
            raise ServingError(ErrorKind.UNAVAILABLE, ENDED) from None

    async def warm_up(self, image: bytes, seconds: float) -> None:
        """Answers once about an encoded image, so that no caller waits for what is set up on first
        use, or finds that nothing is answered.

        Raises EngineError.
        """
        steered = SteeredImage(data=image, edits=(), strength=1.0, at="image")
        turns = (ConversationTurn(role="user", text="a", images=(steered,)),)
        sampling = SamplingRequest(max_tokens=1, temperature=0.0, top_p=1.0, seed=0)
        call = ChatCall(selector=ModelSelector(), turns=turns, sampling=sampling)
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with (
                asyncio.timeout_at(deadline),
                aclosing(self.converse(call, deadline)) as events,
            ):
                async for _ in events:
                    pass
        except (RuntimeError, ValueError, TypeError, TimeoutError, ServingError) as error:
            raise EngineError(f"chat: {error or 'not answered in time'}") from None

    async def close(self) -> None:
        """Ends the engine and frees the language model."""
        self._thread.close()
        self._assembler.close()
        await self._model.close()
