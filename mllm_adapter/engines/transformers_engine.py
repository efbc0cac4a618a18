"""Hugging Face transformers, with continuous batching. T tokens, H width, V vocabulary.

One thread decodes all conversations as one batch, a token each a step. A new prompt joins, and a
finished or cancelled one leaves, between two steps.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mllm_adapter.engines.base import GenerationError, LoadedLLM, Sampling, TokenDelta
from mllm_adapter.engines.kv_cache import BatchCache
from mllm_adapter.model.llm import end_tokens, load_llm
from training.core.compat import transformers

log = logging.getLogger(__name__)

Deliver = Callable[[TokenDelta | GenerationError], None]


@dataclass(eq=False, kw_only=True)
class _Request:
    """One conversation."""

    prompt: Float[Tensor, "T H"]
    sampling: Sampling
    deliver: Deliver
    random: torch.Generator
    cancelled: threading.Event = field(default_factory=threading.Event)
    given: int = 0
    """Tokens so far."""
    token: int = -1
    """The last one, which the model has not read yet."""
    ended: bool = False

    @property
    def wanted(self) -> bool:
        """It goes on."""
        return not (self.ended or self.cancelled.is_set())


class TransformersEngine:
    """Generates with a causal LM of transformers on one device."""

    def __init__(self, model: Any, end: Sequence[int], max_batch: int = 32) -> None:
        self._model, self._end, self._max_batch = model, frozenset(end), max_batch
        self.description = f"transformers {transformers().__version__} {model.device.type}"
        self._arrivals: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: Path, max_batch: int, **options: Any) -> LoadedLLM:
        """See GenerationEngine.open; there are no `options`."""
        llm, tokenizer = load_llm(path)
        engine = cls(llm, end_tokens(path, tokenizer), max_batch, **options)
        return LoadedLLM(engine, tokenizer, llm.get_input_embeddings().weight.detach())

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
        pieces: asyncio.Queue[TokenDelta | GenerationError] = asyncio.Queue()

        def deliver(piece: TokenDelta | GenerationError) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        random = torch.Generator().manual_seed(sampling.seed)
        row = _Request(prompt=prompt, sampling=sampling, deliver=deliver, random=random)
        self._arrivals.put(row)
        try:
            while True:
                piece = await pieces.get()
                if isinstance(piece, GenerationError):
                    raise piece
                yield piece
                if piece.finish:
                    return
        finally:
            row.cancelled.set()

    async def close(self) -> None:
        """See GenerationEngine.close."""
        self._arrivals.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _run(self) -> None:
        rows: list[_Request] = []
        cache = BatchCache(self._model)
        while True:
            try:
                kept = [i for i, row in enumerate(rows) if row.wanted]
                cache.keep(kept)
                rows = [rows[i] for i in kept]
                while len(rows) < self._max_batch and (not rows or not self._arrivals.empty()):
                    row = self._arrivals.get()
                    if row is None:
                        return
                    if not row.cancelled.is_set():
                        rows.append(row)
                        self._give(row, cache.join(row.prompt))
                        if row.ended:
                            break
                else:
                    logits = cache.step([row.token for row in rows])
                    for row, its in zip(rows, logits, strict=True):
                        self._give(row, its)
            except Exception:  # whatever a model raises ends its batch, not the thread
                log.exception("decoding failed")
                for row in rows:
                    _tell(row, GenerationError("decoding failed"))
                rows, cache = [], BatchCache(self._model)

    def _give(self, row: _Request, logits: Float[Tensor, " V"]) -> None:
        if row.given < row.sampling.min_tokens:
            logits = logits.clone()
            logits[list(self._end)] = -torch.inf
        row.token = choose(logits, row.sampling, row.random)
        row.given += 1
        if row.token in self._end:
            row.ended = True
            _tell(row, TokenDelta(ids=(), finish="stop"))
        else:
            row.ended = row.given >= row.sampling.max_tokens
            _tell(row, TokenDelta(ids=(row.token,), finish="length" if row.ended else ""))


def _tell(row: _Request, piece: TokenDelta | GenerationError) -> None:
    if row.cancelled.is_set():
        return
    try:
        row.deliver(piece)
    except RuntimeError:  # its event loop is closed: nobody listens
        row.cancelled.set()


def choose(logits: Float[Tensor, " V"], sampling: Sampling, random: torch.Generator) -> int:
    """The next token: the likeliest, or by chance at a temperature above 0."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    chances = (logits.float().cpu() / sampling.temperature).softmax(-1)
    order = chances.argsort(descending=True)
    before = chances[order].cumsum(-1) - chances[order]
    chances[order[before >= sampling.top_p]] = 0
    return int(torch.multinomial(chances, 1, generator=random))
