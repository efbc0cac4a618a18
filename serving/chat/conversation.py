"""One model's conversations: see the images, edit them, and give the answer as it is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from bundle.concepts import ConceptVocabulary
from serving.batching.worker_thread import WorkerThread
from serving.chat.loading import LanguageModel
from serving.chat.prompt_assembly import AssembledPrompt, PromptAssembler
from serving.chat.requests import (
    ChatCall,
    ConversationTurn,
    DeltaEvent,
    EndEvent,
    Event,
    SamplingRequest,
    StartEvent,
)
from serving.chat.vision import EmbedItems, VisionEncoder
from serving.core.errors import ErrorKind, ServingError
from serving.core.limits import LimitsConfig
from serving.core.metrics import ChatMetrics
from serving.core.requests import ModelSelector
from serving.engines.base import EngineError

ENDED = "the language model of this server has ended; embeddings are still answered"


class Chat:
    """Answers conversations about images with one adapter and its language model."""

    def __init__(
        self,
        model: LanguageModel,
        concepts: ConceptVocabulary,
        embed: EmbedItems,
        limits: LimitsConfig,
        metrics: ChatMetrics,
        suspect: Callable[[], None],
    ) -> None:
        """`suspect` is called when the engine was found ended."""
        self._model, self._suspect = model, suspect
        self._metrics = metrics
        self._vision = VisionEncoder(embed, len(concepts), metrics)
        self._desk = PromptAssembler(model, concepts, limits)
        # Tokenising, editing and projecting are torch and Python code.
        self._thread = WorkerThread("chat")

    @property
    def ended(self) -> bool:
        """Its engine answers nothing any more."""
        return bool(self._model.engine.ended)

    async def converse(self, call: ChatCall, deadline: float) -> AsyncGenerator[Event]:
        """The events of one conversation; `deadline` is in the event loop's time.

        An async generator that owns its cancellation: closed before its end, it frees its place in
        the engine's batch within one step. Raises ServingError.
        """
        loop = asyncio.get_running_loop()
        draft = await self._thread.run(lambda: self._desk.draft(call))
        sight = await self._vision.look(call, draft.digests, deadline)
        seen = loop.time()
        layout = await self._thread.run(
            lambda: self._desk.finish(call, draft, sight.codes, sight.phrases)
        )
        ready = loop.time()
        yield StartEvent(engine=self._model.engine.description, images=layout.seen)
        asked = loop.time()
        first_token_s, tokens, finish = 0.0, 0, ""
        async with aclosing(self._replies(layout)) as replies:
            async for reply in replies:
                if not first_token_s:
                    first_token_s = loop.time() - asked
                    self._metrics.first_token.observe(first_token_s)
                self._metrics.tokens.inc(reply.tokens)
                tokens += reply.tokens
                finish = reply.finish
                if reply.tokens:
                    yield DeltaEvent(text=reply.text, tokens=reply.tokens)
        yield EndEvent(
            finish="stop" if finish == "stop" else "length",
            prompt_tokens=len(draft.prompt.ids),
            image_tokens=len(draft.prompt.image_positions)
            * self._model.adapter.config.visual_tokens,
            completion_tokens=tokens,
            vision=sight.times,
            prepare_s=ready - seen,
            first_token_s=first_token_s,
        )

    async def _replies(self, layout: AssembledPrompt) -> AsyncGenerator[Any]:
        try:
            async with aclosing(self._model.answer(layout.embedded, layout.sampling)) as replies:
                async for reply in replies:
                    yield reply
        except RuntimeError:  # GenerationError
            if not self.ended:
                raise
            self._suspect()
            raise ServingError(ErrorKind.UNAVAILABLE, ENDED) from None

    async def warm_up(self) -> None:
        """Answers once, so that no caller waits for what is set up on first use.

        Raises EngineError.
        """
        sampling = SamplingRequest(max_tokens=1, temperature=0.0, top_p=1.0, seed=0)
        turns = (ConversationTurn(role="user", text="a", images=()),)
        call = ChatCall(selector=ModelSelector(), turns=turns, sampling=sampling)

        def laid_out() -> AssembledPrompt:
            return self._desk.finish(call, self._desk.draft(call), {}, {})

        try:
            layout = await self._thread.run(laid_out)
            async for _ in self._model.answer(layout.embedded, layout.sampling):
                pass
        except (RuntimeError, ServingError) as error:
            raise EngineError(f"chat: {error}") from None

    async def close(self) -> None:
        """Ends the engine and frees the language model."""
        self._thread.close()
        await self._model.close()
