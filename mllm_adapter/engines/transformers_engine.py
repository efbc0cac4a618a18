"""Hugging Face transformers with continuous batching. T tokens of a prompt, H width, V vocabulary.

One thread decodes all conversations as one batch, one token per conversation and step. Between two
steps new prompts join the batch, and finished and cancelled ones leave it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bundle.bounded_log import BoundedLog
from mllm_adapter.engines._kv_cache import BatchCache
from mllm_adapter.engines.base import FinishReason, GenerationError, LoadedLLM, Sampling, TokenDelta
from mllm_adapter.model.llm import TokenEmbeddings, end_tokens, load_llm
from training.core.torchvision_compat import transformers

Deliver = Callable[[TokenDelta | GenerationError], None]
"""Hands something to the caller's event loop; called in the decoding thread."""


@dataclass(eq=False, kw_only=True)
class _Request:
    """A prompt that waits, or the answer that is decoded in one row of the batch."""

    prompt: Float[Tensor, "T H"]
    sampling: Sampling
    deliver: Deliver
    random: torch.Generator
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set by the caller's event loop, read by the decoding thread."""
    decoded: int = 0
    """How many tokens have been decoded."""
    counts: Counter[int] = field(default_factory=Counter)
    """How often the answer has each token; empty without penalties."""
    token: int = -1
    """The last decoded token, which the model reads in the next step."""
    ended: bool = False

    @property
    def active(self) -> bool:
        """Whether the answer goes on."""
        return not (self.ended or self.cancelled.is_set())


class TransformersEngine:
    """Generates with a causal LM of transformers on one device."""

    has_repetition_penalty = True

    def __init__(self, model: Any, end: Sequence[int], max_batch: int = 32) -> None:
        self._model, self._end, self._max_batch = model, frozenset(end), max_batch
        self.description = f"transformers {transformers().__version__} {model.device.type}"
        self._waiting: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        """Requests that have not joined the batch; None asks the thread to end."""
        self._log = BoundedLog(logging.getLogger(__name__))
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: Path, max_batch: int, **options: Any) -> LoadedLLM:
        """See GenerationEngine.open. There are no `options`."""
        llm, tokenizer = load_llm(path)
        engine = cls(llm, end_tokens(path, tokenizer), max_batch, **options)
        return LoadedLLM(engine, tokenizer, TokenEmbeddings.of(llm))

    @property
    def ended(self) -> bool:
        """See GenerationEngine.ended."""
        return not self._thread.is_alive()

    async def generate(
        self, prompt: Float[Tensor, "T H"], sampling: Sampling
    ) -> AsyncGenerator[TokenDelta]:
        """See GenerationEngine.generate."""
        if self.ended:
            raise GenerationError("the decoding thread has ended")
        loop = asyncio.get_running_loop()
        deltas: asyncio.Queue[TokenDelta | GenerationError] = asyncio.Queue()

        def deliver(delta: TokenDelta | GenerationError) -> None:
            loop.call_soon_threadsafe(deltas.put_nowait, delta)

        random = torch.Generator().manual_seed(sampling.seed)
        request = _Request(prompt=prompt, sampling=sampling, deliver=deliver, random=random)
        self._waiting.put(request)
        try:
            while True:
                delta = await deltas.get()
                if isinstance(delta, GenerationError):
                    raise delta
                yield delta
                if delta.finish:
                    return
        finally:
            request.cancelled.set()

    async def close(self) -> None:
        """See GenerationEngine.close."""
        self._waiting.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        self._log.close()

    def _run(self) -> None:
        """The decoding loop. batch[i] is row i of the cache, at all times."""
        batch: list[_Request] = []
        cache = BatchCache(self._model)
        while True:
            try:
                # 1. Finished and cancelled requests leave.
                rows = [i for i, request in enumerate(batch) if request.active]
                cache.keep(rows)
                batch = [batch[i] for i in rows]
                # 2. Waiting requests join, while the batch has room. `get` blocks only when the
                #    batch is empty; otherwise the loop ends as soon as nobody waits.
                while len(batch) < self._max_batch and (not batch or not self._waiting.empty()):
                    request = self._waiting.get()
                    if request is None:
                        return
                    if not request.cancelled.is_set():
                        batch.append(request)
                        self._append_token(request, cache.join(request.prompt))
                        if request.ended:
                            break  # its row must leave before the batch is stepped
                else:
                    # 3. One step for all. Every row reads the token that it chose last.
                    logits = cache.step([request.token for request in batch])
                    for request, row_logits in zip(batch, logits, strict=True):
                        self._append_token(request, row_logits)
            except Exception as error:  # it fails the batch; the thread must live on
                self._log.write(logging.ERROR, "decoding failed", error=error)
                for request in batch:
                    _deliver(request, GenerationError("decoding failed"))
                batch, cache = [], BatchCache(self._model)

    def _append_token(self, request: _Request, logits: Float[Tensor, " V"]) -> None:
        """Chooses a request's next token and delivers it. Logits that are no numbers fail it."""
        if not bool(torch.isfinite(logits).all()):
            self._log.error("the language model gives logits that are not finite")
            request.ended = True
            _deliver(request, GenerationError("logits that are not finite"))
            return
        if request.decoded < request.sampling.min_tokens:
            logits = logits.clone()
            logits[list(self._end)] = -torch.inf
        request.token = choose_token(logits, request.sampling, request.random, request.counts)
        request.decoded += 1
        if request.sampling.penalised:
            request.counts[request.token] += 1
        if request.token in self._end:
            request.ended = True
            _deliver(request, TokenDelta(ids=(), finish="stop"))
        else:
            request.ended = request.decoded >= request.sampling.max_tokens
            finish: FinishReason = "length" if request.ended else ""
            _deliver(request, TokenDelta(ids=(request.token,), finish=finish))


def _deliver(request: _Request, delta: TokenDelta | GenerationError) -> None:
    if request.cancelled.is_set():
        return
    try:
        request.deliver(delta)
    except RuntimeError:  # the caller's event loop is closed, so nobody reads the answer
        request.cancelled.set()


def choose_token(
    logits: Float[Tensor, " V"],
    sampling: Sampling,
    random: torch.Generator,
    counts: Mapping[int, int] | None = None,
) -> int:
    """The next token: the likeliest at temperature 0, else one drawn from the top-p tokens.

    `counts` says how often the answer has each token, for the penalties.
    """
    if counts:
        logits = _penalised(logits, sampling, counts)
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities = (logits.float().cpu() / sampling.temperature).softmax(-1)
    order = probabilities.argsort(descending=True)
    # A token stays while the tokens before it have not reached top_p; the likeliest always stays.
    before = probabilities[order].cumsum(-1) - probabilities[order]
    probabilities[order[before >= sampling.top_p]] = 0
    return int(torch.multinomial(probabilities, 1, generator=random))


def _penalised(
    logits: Float[Tensor, " V"], sampling: Sampling, counts: Mapping[int, int]
) -> Float[Tensor, " V"]:
    """The logits after the penalties of Sampling. Only those of the answer's tokens change."""
    tokens = torch.tensor(list(counts), device=logits.device)
    # In float32: a small repetition penalty would take half floats beyond their range.
    logits = logits.float().clone()
    seen = logits[tokens]
    seen = torch.where(
        seen > 0, seen / sampling.repetition_penalty, seen * sampling.repetition_penalty
    )
    times = torch.tensor(list(counts.values()), device=logits.device)
    seen -= sampling.frequency_penalty * times + sampling.presence_penalty
    logits[tokens] = seen
    return logits
